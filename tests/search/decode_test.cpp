// Greedy decoding against prefilling all over again.
#include "libsearch/search/decode.h"

#include <catch2/catch.hpp>

#include <algorithm>

#include "libsearch/model/linear.h"
#include "libsearch/search/planned_attention.h"
#include "tests/search/model_support.h"

namespace mi::search {
namespace {

ComputeOptions compute_of(runtime::Element element) {
  ComputeOptions compute;
  const kernels::Backend* backend = *kernels::choose_backend();
  compute.backend = element == runtime::Element::bf16 ? backend : &backend->f32();
  compute.threads = 2;
  compute.element = element;
  return compute;
}

std::vector<int32_t> prompt_of(int64_t tokens) {
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < tokens; ++i) ids.push_back(static_cast<int32_t>((i * i + 7 * i) % 300));
  return ids;
}

// Every head: four first keys and a window, so that far keys are lost.
runtime::HeadConfig windows_config() {
  runtime::HeadConfig config = dense_config(tiny_model().spec());
  for (auto& layer : config.layers)
    for (runtime::HeadEntry& head : layer) {
      head.pattern = runtime::Pattern::a_shape;
      head.sink = 4;
      head.local = {{0, 64}};
    }
  return config;
}

std::vector<float> logits_after(const Tensor<float, 2>& hidden) {
  std::vector<float> logits(static_cast<size_t>(tiny_model().spec().vocab));
  REQUIRE(tiny_model().logits({hidden.view()[hidden.extent(0) - 1].data, {1, hidden.extent(1)}},
                              {logits.data(), {1, tiny_model().spec().vocab}}));
  return logits;
}

// Prefills everything so far, the prompt's rows by the config and those after it dense.
std::vector<float> prefill_again(const runtime::HeadConfig& config, int64_t prompt_tokens,
                                 std::span<const int32_t> ids) {
  auto plan = PlannedAttention::make(config, prompt_tokens, compute_of(runtime::Element::f32));
  REQUIRE(plan);
  const auto hidden = tiny_model().forward(
      ids,
      [&](const LayerQkv& layer, TensorView<float, 3> o) -> Status {
        MI_CHECK(plain_attention(layer, o));
        LayerQkv first = layer;
        first.q.extent[1] = first.k.extent[1] = first.v.extent[1] = o.extent[1] = prompt_tokens;
        return plan->run(first, o);
      },
      {});
  REQUIRE(hidden);
  return logits_after(*hidden);
}

TEST_CASE("decoded tokens are those of prefilling all over again") {
  const bool sparse = GENERATE(false, true);
  const auto element = GENERATE(runtime::Element::f32, runtime::Element::bf16);
  const auto tokens = GENERATE(as<int64_t>(), 1, 64, 129, 500);
  const Status has_bf16 = bf16_linear_available();
  if (element == runtime::Element::bf16 && !has_bf16) MI_SKIP(has_bf16.what);
  constexpr int64_t kMost = 9;
  const auto config = sparse ? windows_config() : dense_config(tiny_model().spec());
  const auto prompt = prompt_of(tokens);
  const auto generated = decode_greedily(tiny_model(), config, prompt, kMost, compute_of(element));
  INFO((generated ? "" : generated.error().what));
  REQUIRE(generated);
  REQUIRE(generated->size() == kMost);
  std::vector<int32_t> ids = prompt;
  for (const int32_t token : *generated) {
    const auto logits = prefill_again(config, tokens, ids);
    const auto best = std::max_element(logits.begin(), logits.end());
    INFO("sparse " << sparse << ", " << tokens << " tokens, at " << ids.size());
    if (element == runtime::Element::f32) {
      CHECK(token == best - logits.begin());
    } else {
      // Rounded to 8 bits a dozen times in each of two layers (see decoder_test): the token taken
      // is one of those that are best within that.
      const auto [low, high] = std::minmax_element(logits.begin(), logits.end());
      CHECK(*best - logits[static_cast<size_t>(token)] <= 0x1p-5F * (*high - *low));
    }
    ids.push_back(token);
  }
}

TEST_CASE("a sparse prompt decodes differently once far keys matter") {
  // Else the test above would say nothing about sparse prompts.
  const auto prompt = prompt_of(500);
  const auto dense = prefill_again(dense_config(tiny_model().spec()), 500, prompt);
  const auto sparse = prefill_again(windows_config(), 500, prompt);
  CHECK(dense != sparse);
}

TEST_CASE("decoding ends at the limit or where it is told to") {
  const auto compute = compute_of(runtime::Element::f32);
  const auto config = dense_config(tiny_model().spec());
  const auto prompt = prompt_of(70);
  const auto all = decode_greedily(tiny_model(), config, prompt, 6, compute);
  REQUIRE(all);
  std::vector<size_t> seen;
  const auto some = decode_greedily(tiny_model(), config, prompt, 6, compute,
                                    [&](std::span<const int32_t> generated) {
                                      seen.push_back(generated.size());
                                      return generated.size() == 3;
                                    });
  REQUIRE(some);
  CHECK(seen == std::vector<size_t>{1, 2, 3});
  CHECK(std::vector<int32_t>(all->begin(), all->begin() + 3) == *some);
  CHECK(decode_greedily(tiny_model(), config, prompt, 0, compute)->empty());
  CHECK(decode_greedily(tiny_model(), config, {}, 1, compute).error().code ==
        Code::invalid_argument);
  CHECK(
      decode_greedily(tiny_model(), config, std::vector<int32_t>{9999}, 1, compute).error().code ==
      Code::invalid_argument);
}

}  // namespace
}  // namespace mi::search
