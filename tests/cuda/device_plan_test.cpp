// A device plan on a device or the emulator of one: what it selects is what libruntime's estimates
// say, and what it computes is attention over what it selected.
#include <catch2/catch.hpp>

#include "libruntime/plan.h"
#include "tests/cuda/device_layer.h"
#include "tests/cuda/head_entries.h"

namespace mi::test::cuda {
namespace {

template <class T, int kDim>
void check_mixed(int64_t n_q, int64_t n_kv, uint64_t seed) {
  INFO("n_q " << n_q << " n_kv " << n_kv << " head_dim " << kDim);
  const Element element = std::is_same_v<T, bf16> ? Element::bf16 : Element::f16;
  const PlanShape shape = shape_of(n_q, n_kv, 4, 2, kDim, element);
  HeadConfig config = config_of(shape, {{stripe(0.3), HeadEntry{}, a_shape(100), stripe(0.05)}});
  config.kernel.last = 20;
  DeviceRun<T, kDim> run(config, shape);
  CHECK(run.check(seed, 1.5f) == "");
}

TEST_CASE("a layer of dense, window and stripe heads, for any shape") {
  MI_NEEDS_MACHINE();
  uint64_t seed = 0;
  for (const auto& [n_q, n_kv] : std::vector<std::pair<int64_t, int64_t>>{
           {1, 1}, {63, 63}, {64, 64}, {65, 65}, {1, 200}, {64, 65}, {130, 257}, {300, 300}})
    check_mixed<bf16, 64>(n_q, n_kv, ++seed);
  check_mixed<f16, 64>(200, 333, 20);
  check_mixed<bf16, 80>(70, 130, 21);
  check_mixed<f16, 96>(70, 130, 22);
  check_mixed<f16, 128>(130, 200, 23);
  check_mixed<bf16, 256>(66, 190, 24);
}

template <class T, int kDim>
void check_vertical(int64_t n_q, int64_t n_kv, uint64_t seed, double softcap = 0) {
  INFO("n_q " << n_q << " n_kv " << n_kv << " head_dim " << kDim);
  const Element element = std::is_same_v<T, bf16> ? Element::bf16 : Element::f16;
  const PlanShape shape = shape_of(n_q, n_kv, 4, 2, kDim, element);
  HeadConfig config = config_of(shape, {{vertical(Pattern::vertical_slash, 0.5),
                                         vertical(Pattern::stripe_vertical_slash, 0.6), stripe(0.3),
                                         vertical(Pattern::stripe_vertical_slash, 0.3, 0.3)}});
  config.kernel.last = 10;
  config.model.softcap = softcap;
  DeviceRun<T, kDim> run(config, shape);
  CHECK(run.check(seed, 1.5f) == "");
}

TEST_CASE("columns and diagonals of the last rows, alone and with stripes, for any shape") {
  MI_NEEDS_MACHINE();
  uint64_t seed = 100;
  for (const auto& [n_q, n_kv] : std::vector<std::pair<int64_t, int64_t>>{
           {1, 1}, {63, 63}, {64, 64}, {65, 65}, {1, 200}, {3, 130}, {130, 257}, {300, 300}})
    check_vertical<bf16, 64>(n_q, n_kv, ++seed);
  check_vertical<f16, 64>(200, 333, 120, 4);
  check_vertical<bf16, 80>(70, 130, 121);
  check_vertical<f16, 96>(70, 130, 122);
  check_vertical<f16, 128>(130, 200, 123);
  check_vertical<bf16, 256>(66, 190, 124);
  check_vertical<bf16, 64>(70, 4096 * 2 + 100, 125);  // three chunks of keys
}

template <class T, int kDim>
void check_blocks(int64_t n_q, int64_t n_kv, uint64_t seed, double softcap = 0) {
  INFO("n_q " << n_q << " n_kv " << n_kv << " head_dim " << kDim);
  const Element element = std::is_same_v<T, bf16> ? Element::bf16 : Element::f16;
  const PlanShape shape = shape_of(n_q, n_kv, 4, 2, kDim, element);
  const double even = 64.0 / static_cast<double>(n_kv);  // of equal shares
  HeadConfig config = config_of(
      shape, {{blocks(0, even), blocks(8, even), blocks(16, even), blocks(8, even / 2, 0.3)}});
  config.kernel.last = 10;
  config.model.softcap = softcap;
  DeviceRun<T, kDim> run(config, shape);
  CHECK(run.check(seed, 4) == "");
}

TEST_CASE("blocks by pooled and by antidiagonal estimates, for any shape") {
  MI_NEEDS_MACHINE();
  uint64_t seed = 200;
  for (const auto& [n_q, n_kv] : std::vector<std::pair<int64_t, int64_t>>{
           {1, 1}, {63, 63}, {64, 64}, {65, 65}, {1, 200}, {3, 130}, {130, 257}, {300, 333}})
    check_blocks<bf16, 64>(n_q, n_kv, ++seed);
  check_blocks<f16, 64>(300, 1000, 220, 4);
  check_blocks<bf16, 80>(70, 330, 221);
  check_blocks<f16, 96>(70, 330, 222);
  check_blocks<f16, 128>(130, 400, 223);
  check_blocks<bf16, 256>(66, 390, 224);
  check_blocks<bf16, 64>(64 * 17 + 3, 64 * 17 + 45, 225);  // two items
}

TEST_CASE("blocks in waves of one head use the means of their own keys") {
  MI_NEEDS_MACHINE();
  const PlanShape shape = shape_of(130, 600, 4, 2, 64, Element::bf16);
  DeviceRun<bf16, 64> run(config_of(shape, {std::vector<HeadEntry>(4, blocks(0, 0.1))}), shape,
                          {.wave_bytes = 1});
  CHECK(run.check(230, 4) == "");
}

TEST_CASE("more row blocks than a stripe item has") {
  MI_NEEDS_MACHINE();
  const PlanShape shape = shape_of(64 * 65 + 1, 64 * 65 + 30, 1, 1, 64, Element::bf16);
  DeviceRun<bf16, 64> run(config_of(shape, {{stripe(0.2, 0.05)}}), shape);
  CHECK(run.check(30, 2) == "");
}

TEST_CASE("a soft cap and a scale of the model's") {
  MI_NEEDS_MACHINE();
  const PlanShape shape = shape_of(100, 300, 2, 1, 64, Element::bf16);
  HeadConfig config = config_of(shape, {{stripe(0.1), a_shape(64)}});
  config.model.softcap = 4;
  config.model.scale = 0.25;
  DeviceRun<bf16, 64> run(config, shape);
  CHECK(run.check(40, 1.5f) == "");
}

TEST_CASE("heads pool their shares, and layers hand on what they left") {
  MI_NEEDS_MACHINE();
  const PlanShape shape = shape_of(640, 640, 4, 2, 64, Element::bf16);
  const auto layer = [](double share) {
    return std::vector<HeadEntry>{stripe(0.1, share), stripe(0.1), a_shape(300, share),
                                  stripe(0.2, share)};
  };
  HeadConfig config = config_of(shape, {layer(0.9), layer(0.3), layer(0.5), layer(0.05)});
  DeviceRun<bf16, 64> run(config, shape);
  CHECK(run.check(50, 2) == "");
  REQUIRE(run.raises().size() == 4);
  CHECK(run.raises()[0] == 0);
  CHECK(run.raises()[3] == runtime::kRaises);
  // One head at a time pools with those before it only.
  DeviceRun<bf16, 64> alone(config, shape, {.wave_bytes = 1});
  CHECK(alone.check(50, 2) == "");
  CHECK(alone.raises().size() == 12);
}

TEST_CASE("heads without a threshold find the one that spends their share") {
  MI_NEEDS_MACHINE();
  for (const double share : {0.01, 0.3, 0.6, 3.0}) {
    INFO("share " << share);
    const PlanShape shape = shape_of(520, 640, 6, 2, 64, Element::bf16);
    HeadConfig config = config_of(
        shape, {{spending(stripe(1), share), spending(vertical(Pattern::vertical_slash, 1), share),
                 stripe(0.2, 0.3), spending(vertical(Pattern::stripe_vertical_slash, 1), share),
                 spending(a_shape(100), share), spending(blocks(16, 1), share)}});
    DeviceRun<bf16, 64> run(config, shape);
    CHECK(run.check(300, 2) == "");
  }
  const PlanShape shape = shape_of(70, 333, 2, 1, 128, Element::f16);
  DeviceRun<f16, 128> run(
      config_of(shape, {{spending(blocks(0, 1), 0.5), spending(blocks(8, 1), 0.5)}}), shape,
      {.wave_bytes = 1});
  CHECK(run.check(310, 3) == "");
}

TEST_CASE("a row block whose keys find no room runs dense") {
  MI_NEEDS_MACHINE();
  // About two thirds of the keys, most of them in short stretches.
  const PlanShape shape = shape_of(128, 1300, 2, 1, 64, Element::bf16);
  const HeadEntry wide = stripe(0.006, 0, 0, 0);
  HeadConfig config = config_of(shape, {{wide, wide}});
  config.kernel.last = 0;
  DeviceRun<bf16, 64> run(config, shape);
  CHECK(run.check(60, 4) == "");
  CHECK(run.no_room() > 0);
}

TEST_CASE("a device plan executes the tiles that a plan on the CPU does") {
  MI_NEEDS_MACHINE();
  const PlanShape shape = shape_of(640, 640, 8, 2, 64, Element::bf16);
  HeadConfig config = config_of(
      shape,
      {{stripe(0.1, 0.3), stripe(0.2), a_shape(200, 0.4), spending(stripe(1), 0.4),
        vertical(Pattern::vertical_slash, 0.3, 0.3), vertical(Pattern::stripe_vertical_slash, 0.2),
        blocks(0, 0.1, 0.3), blocks(8, 0.1)}});
  const auto plan = runtime::Plan::make(config, shape, **kernels::choose_backend("cpu_generic"), 1);
  REQUIRE(plan);
  LayerTensors<bf16> tensors(shape, 70, 2);
  AlignedBuffer<char> memory(plan->workspace_bytes());
  std::vector<runtime::HeadStats> stats(8);
  runtime::Unspent left;
  REQUIRE(plan->run(0, TensorView<const bf16, 3>(tensors.narrow_q.data(), {8, 640, 64}),
                    TensorView<const bf16, 3>(tensors.narrow_k.data(), {2, 640, 64}),
                    TensorView<const bf16, 3>(tensors.narrow_v.data(), {2, 640, 64}),
                    TensorView<bf16, 3>(tensors.o.data(), {8, 640, 64}), {}, memory.data(), stats,
                    left));
  CHECK(std::any_of(stats.begin(), stats.end(), [](const auto& of) { return of.capped; }));

  const auto layers = DeviceLayers::make(config, shape, {});
  REQUIRE(layers);
  double unspent = 0;
  DeviceLayer<bf16, 64> device(*layers, 0, tensors, &unspent);
  REQUIRE(device.run(0) == "");
  for (size_t h = 0; h < stats.size(); ++h) {
    INFO("head " << h);
    CHECK(device.reports()[h].tiles == stats[h].tiles);
    CHECK((device.reports()[h].raise > 0) == stats[h].capped);
  }
  CHECK(unspent == Approx(left.tiles).margin(1e-9));
}

TEST_CASE("a chunk of a prompt has the prompt's last rows and no caps") {
  MI_NEEDS_MACHINE();
  PlanShape shape = shape_of(100, 300, 2, 1, 64, Element::bf16);
  shape.prompt_tokens = 340;
  HeadConfig config = config_of(shape, {{stripe(0.1, 0.1), a_shape(64, 0.1)}});
  config.kernel.last = 64;
  DeviceRun<bf16, 64> run(config, shape);
  CHECK(run.check(80, 2) == "");
  CHECK(run.raises().empty());
}

}  // namespace
}  // namespace mi::test::cuda
