// Models of which some layers see a window of keys only: those run as they are, and the others are
// searched.
#include "libsearch/model/window_attention.h"

#include <catch2/catch.hpp>

#include <algorithm>

#include "libsearch/search/decode.h"
#include "libsearch/search/planned_attention.h"
#include "libsearch/search/search.h"
#include "tests/search/model_support.h"

namespace mi::search {
namespace {

const Model& gemma2() {  // layers 0 and 2 have a window of 32 keys
  static const auto model = Model::open(kTestData / "families" / "gemma2");
  REQUIRE(model);
  return **model;
}

ComputeOptions compute() {
  ComputeOptions options;
  options.backend = &(*kernels::choose_backend())->f32();
  options.threads = 2;
  return options;
}

std::vector<int32_t> ids_of(int64_t tokens, int seed) {
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < tokens; ++i)
    ids.push_back(static_cast<int32_t>((i * i + seed * i) % gemma2().spec().vocab));
  return ids;
}

Sample sample_of(int64_t tokens, int seed) {
  auto sample = sample_from_ids(ids_of(tokens, seed), 0, tokens, "test");
  REQUIRE(sample);
  return std::move(*sample);
}

template <class T>
Tensor<T, 3> random_tensor(std::array<int64_t, 3> extent, uint64_t seed) {
  Tensor<T, 3> tensor(extent);
  const auto values = test::random_normal(tensor.span().size(), seed);
  std::transform(values.begin(), values.end(), tensor.data(), narrowed<T>);
  return tensor;
}

Tensor<float, 3> widened(const Tensor<float, 3>& x) {
  return x.clone();
}
Tensor<float, 3> widened(const Tensor<bf16, 3>& x) {
  Tensor<float, 3> wide({x.extent(0), x.extent(1), x.extent(2)});
  widen(x.data(), x.extent(2), x.extent(0) * x.extent(1), x.extent(2), wide.data());
  return wide;
}

TEMPLATE_TEST_CASE("window attention equals attention row by row", "[cpu]", float, bf16) {
  const auto [n_q, n_kv] = GENERATE(std::pair{1, 1}, std::pair{63, 63}, std::pair{64, 64},
                                    std::pair{65, 65}, std::pair{130, 200}, std::pair{1, 77});
  const auto window = GENERATE(as<int64_t>(), 1, 7, 64, 65, 1000);
  const auto softcap = GENERATE(0.0, 2.0);
  INFO(n_q << " of " << n_kv << ", window " << window << ", softcap " << softcap);
  constexpr int kDim = 24;
  const auto q = random_tensor<TestType>({4, n_q, kDim}, 1);
  const auto k = random_tensor<TestType>({2, n_kv, kDim}, 2);
  const auto v = random_tensor<TestType>({2, n_kv, kDim}, 3);
  BasicLayerQkv<TestType> layer;
  layer.window = window;
  layer.q = q.view();
  layer.k = k.view();
  layer.v = v.view();
  Tensor<TestType, 3> o({4, n_q, kDim});
  window_attention<TestType>(layer, 0.5, softcap, 2, o.view());
  const auto wide_q = widened(q), wide_k = widened(k), wide_v = widened(v);
  LayerQkv plain;
  plain.window = window;
  plain.q = wide_q.view();
  plain.k = wide_k.view();
  plain.v = wide_v.view();
  Tensor<float, 3> want({4, n_q, kDim});
  REQUIRE(plain_attention(plain, want.view(), 0.5, softcap));
  const double roundings = std::is_same_v<TestType, float> ? 1e-5 : 0x1p-8;
  CHECK(test::worst_difference(widened(o).span(), want.span(), {1e-5, roundings}) == "");
}

TEST_CASE("a search of a model with windows is about its other layers", "[cpu]") {
  const ModelSpec& spec = gemma2().spec();
  CHECK(spec.layers == 2);
  CHECK(spec.decoder_layers() == 4);
  CHECK(spec.attention_layers == std::vector<int>{1, 3});
  SearchOptions options;
  options.limit = 0.5;
  options.compute = compute();
  options.compute.last = 16;
  const std::vector<Sample> calibration = {sample_of(832, 7), sample_of(900, 11)};
  const std::vector<Sample> held_out = {sample_of(832, 13)};
  const auto result = search(gemma2(), calibration, held_out, options, {});
  INFO((result ? "" : result.error().what));
  REQUIRE(result);
  const runtime::HeadConfig& config = result->config;
  CHECK(config.layers.size() == 2);
  CHECK(config.model.attention_layers == std::vector<int>{1, 3});
  CHECK(config.model.softcap == 5);
  const auto back = runtime::parse_config(runtime::dump_config(config), "test.yaml");
  REQUIRE(back);
  CHECK(*back == config);
  // The certificate's recall of the dense config is 1 when masses are those of capped scores.
  const auto reference = dense_reference(gemma2(), held_out[0], options.compute, {});
  REQUIRE(reference);
  const auto verdict =
      verify_sample(gemma2(), dense_config(spec), held_out[0], *reference, options.compute, {});
  REQUIRE(verdict);
  CHECK(verdict->recall == Approx(1).margin(1e-4));
  CHECK(verdict->kl < 1e-6);
}

TEST_CASE("tokens decoded past a window are those of prefilling all over again", "[cpu]") {
  const auto tokens = GENERATE(as<int64_t>(), 5, 31, 32, 70);
  const auto config = dense_config(gemma2().spec());
  std::vector<int32_t> ids = ids_of(tokens, 3);
  const auto generated = decode_greedily(gemma2(), config, ids, 40, compute());
  INFO((generated ? "" : generated.error().what));
  REQUIRE(generated);
  REQUIRE(generated->size() == 40);
  const ModelSpec& spec = gemma2().spec();
  for (const int32_t token : *generated) {
    const auto hidden =
        gemma2().forward(ids,
                         [&](const LayerQkv& layer, TensorView<float, 3> o) {
                           return plain_attention(layer, o, spec.scale, spec.softcap);
                         },
                         {});
    REQUIRE(hidden);
    std::vector<float> logits(static_cast<size_t>(spec.vocab));
    REQUIRE(gemma2().logits({hidden->view()[hidden->extent(0) - 1].data, {1, spec.hidden}},
                            {logits.data(), {1, spec.vocab}}));
    CHECK(token == std::max_element(logits.begin(), logits.end()) - logits.begin());
    ids.push_back(token);
  }
}

}  // namespace
}  // namespace mi::search
