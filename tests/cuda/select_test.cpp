// Selection on a device or the emulator of one: forced keys, tiles filled, caps pooled, for any
// codes.
#include <catch2/catch.hpp>

#include <algorithm>
#include <array>
#include <set>
#include <utility>

#include "tests/cuda/select_layer.h"

namespace mi::test::cuda {
namespace {

const std::vector<HeadWords> kShapes = {
    {1, 1},     {63, 63},   {64, 64},      {65, 65},           {1, 64}, {1, 200}, {64, 65},
    {130, 257}, {300, 300}, {200, 64 * 5}, {65, 64 * 140 + 3},
};

HeadRule code_rule(int32_t sink, int32_t local, int32_t last, int32_t shares_cap = 0) {
  HeadRule rule{.rule = KeyRule::codes, .shares_cap = shares_cap};
  rule.sink = sink;
  rule.local = local;
  rule.last = last;
  return rule;
}

TEST_CASE("selection: the keys of any codes, for any shape and rule") {
  MI_NEEDS_MACHINE();
  int kind = 0;
  for (const HeadRule& rule :
       {code_rule(0, 0, 0), code_rule(16, 128, 64), code_rule(0, 1, 1), code_rule(1000, 0, 65),
        code_rule(3, 70, 0), code_rule(7, 100000, 1)})
    for (const HeadWords& shape : kShapes) {
      INFO("n_q " << shape.n_q << " n_kv " << shape.n_kv << " sink " << rule.sink << " local "
                  << rule.local << " last " << rule.last << " kind " << kind);
      CHECK(check_select({shape, {rule}}, kind, 1) == "");
      ++kind;
    }
}

TEST_CASE("selection: the keys of any window are the host's") {
  MI_NEEDS_MACHINE();
  for (const int64_t window : {1, 2, 63, 64, 65, 100, 1024})
    for (const HeadRule& rule : {window_rule(window, 0, 0), window_rule(window, 1, 64),
                                 window_rule(window, 70, 1), window_rule(window, 5, 0, 80)})
      for (const HeadWords& shape : kShapes) {
        INFO("n_q " << shape.n_q << " n_kv " << shape.n_kv << " sink " << rule.sink << " local "
                    << rule.local << " last " << rule.last << " window " << window);
        CHECK(check_select({shape, {rule}}, 0, 2) == "");
      }
}

TEST_CASE("selection: heads that share a cap raise their thresholds together, the others do not") {
  MI_NEEDS_MACHINE();
  SelectLayer layer{.shape = {200, 700}};
  layer.heads = {code_rule(4, 32, 64, 1), code_rule(4, 32, 64),    HeadRule{},
                 window_rule(200, 4, 64), window_rule(300, 4, 64), code_rule(0, 0, 0, 1)};
  layer.heads[4].shares_cap = 1;
  layer.heads[0].second_look = 0.5;
  layer.heads[5].second_look = 1.5;  // more than few raises save
  std::set<int32_t> raises, of_last;
  bool kept = false;
  for (const int cap : {10, 64, 76, 82})
    for (int kind = 0; kind < 6; ++kind) {
      layer.cap = cap;
      layer.unspent = cap % 4 == 0 ? 7.25 : -3;
      std::vector<int32_t> found;
      INFO("cap " << cap << " kind " << kind);
      CHECK(check_select(layer, kind, 3, &found) == "");
      raises.insert(*std::max_element(found.begin(), found.end()));
      of_last.insert(found[5]);
      kept = kept || (found[5] == 0 && found[4] > 0);
      CHECK((found[1] == 0 && found[3] == 0));
    }
  CHECK(raises.size() >= 4);
  CHECK(*raises.rbegin() == kRaises);
  CHECK(of_last.count(0) == 1);
  CHECK(of_last.size() > 1);
  CHECK(kept);
}

TEST_CASE("selection: more row blocks than threads that add up their tiles") {
  MI_NEEDS_MACHINE();
  SelectLayer layer{.shape = {64 * 520, 64 * 520}};
  layer.heads = {window_rule(640, 4, 64), window_rule(64 * 300, 0, 0)};
  layer.heads[0].shares_cap = layer.heads[1].shares_cap = 1;
  layer.cap = 60000;
  std::vector<int32_t> raises;
  CHECK(check_select(layer, 1, 4, &raises) == "");
  CHECK(raises[0] > 0);
  CHECK(raises[0] < kRaises);
}

TEST_CASE("words of a launch's argument arrive") {
  MI_NEEDS_MACHINE();
  using kernels::cuda::PutCall;
  std::array<uint64_t, 3> memory = {7, 7, 7};
  const auto launch = make_launch<bf16, 64, PutCall>();
  const Part part{0, 2 * sizeof(uint64_t), true};
  void* const seen = launch->share(memory.data(), sizeof(memory), {&part, 1});
  CHECK(launch->run({.words = {1, 2, 3}, .count = 2, .to = static_cast<uint64_t*>(seen)}).wrong ==
        "");
  CHECK(memory == std::array<uint64_t, 3>{1, 2, 7});
}

}  // namespace
}  // namespace mi::test::cuda
