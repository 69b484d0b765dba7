// A search's forward pass on a device or the stand-in of one, against the f32 pass of this CPU.
#include <catch2/catch.hpp>

#include <cmath>
#include <cstdint>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "kernels/backend.h"
#include "libsearch/search/forward_device.h"
#include "libsearch/search/planned_attention.h"
#include "libsearch/search/score_table.h"
#include "libsearch/search/verify.h"
#include "tests/cuda/head_entries.h"
#include "tests/cuda/under_test.h"
#include "tests/temporary_folder.h"

namespace mi::search {
namespace {

using Json = nlohmann::json;

constexpr int kHidden = 64, kHeads = 2, kDim = 64, kFfn = 80, kVocab = 50, kLayers = 3;

// Tensors of a layer beside q, k, v and o; the second: rows, of one: 0.
std::vector<std::pair<std::string, int>> others_of(const std::string& architecture) {
  if (architecture == "Glm4ForCausalLM")
    return {{"self_attn.q_proj.bias", kHeads * kDim},
            {"self_attn.k_proj.bias", kDim},
            {"self_attn.v_proj.bias", kDim},
            {"post_self_attn_layernorm.weight", kHidden},
            {"post_mlp_layernorm.weight", kHidden}};
  if (architecture == "Qwen3ForCausalLM")
    return {{"self_attn.q_norm.weight", kDim}, {"self_attn.k_norm.weight", kDim}};
  return {};
}

// A Hugging Face directory of random weights, in f32.
void write_model(const std::filesystem::path& folder, const std::string& architecture) {
  const Json config = {{"architectures", {architecture}},
                       {"attention_bias", architecture == "Glm4ForCausalLM"},
                       {"head_dim", kDim},
                       {"hidden_act", "silu"},
                       {"hidden_size", kHidden},
                       {"intermediate_size", kFfn},
                       {"max_position_embeddings", 512},
                       {"num_attention_heads", kHeads},
                       {"num_hidden_layers", kLayers},
                       {"num_key_value_heads", 1},
                       {"partial_rotary_factor", architecture == "Glm4ForCausalLM" ? 0.5 : 1.0},
                       {"rms_norm_eps", 1e-5},
                       {"rope_theta", 1000.0},
                       {"tie_word_embeddings", true},
                       {"vocab_size", kVocab}};
  std::ofstream(folder / "config.json") << config;
  Json header;
  std::vector<float> all;
  const auto add = [&](const std::string& name, std::vector<int> shape) {
    size_t count = 1;
    for (const int extent : shape) count *= static_cast<size_t>(extent);
    const float sigma = shape.size() == 1 ? 0.3f : 1 / std::sqrt(static_cast<float>(shape[1]));
    const auto values = test::random_normal(count, all.size() + 1, sigma);
    header[name] = {{"dtype", "F32"},
                    {"shape", shape},
                    {"data_offsets", {4 * all.size(), 4 * (all.size() + count)}}};
    const bool is_norm = name.find("norm") != std::string::npos;
    for (const float x : values) all.push_back(is_norm ? 1 + x : x);
  };
  add("model.embed_tokens.weight", {kVocab, kHidden});
  add("model.norm.weight", {kHidden});
  for (int layer = 0; layer < kLayers; ++layer) {
    const std::string prefix = "model.layers." + std::to_string(layer) + ".";
    add(prefix + "input_layernorm.weight", {kHidden});
    add(prefix + "post_attention_layernorm.weight", {kHidden});
    add(prefix + "self_attn.q_proj.weight", {kHeads * kDim, kHidden});
    add(prefix + "self_attn.k_proj.weight", {kDim, kHidden});
    add(prefix + "self_attn.v_proj.weight", {kDim, kHidden});
    add(prefix + "self_attn.o_proj.weight", {kHidden, kHeads * kDim});
    for (const auto& [name, size] : others_of(architecture)) add(prefix + name, {size});
    if (architecture == "Glm4ForCausalLM") {
      add(prefix + "mlp.gate_up_proj.weight", {2 * kFfn, kHidden});
    } else {
      add(prefix + "mlp.gate_proj.weight", {kFfn, kHidden});
      add(prefix + "mlp.up_proj.weight", {kFfn, kHidden});
    }
    add(prefix + "mlp.down_proj.weight", {kHidden, kFfn});
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  const uint64_t size = text.size();
  std::ofstream file(folder / "model.safetensors", std::ios::binary);
  file.write(reinterpret_cast<const char*>(&size), 8);
  file.write(text.data(), static_cast<std::streamsize>(text.size()));
  file.write(reinterpret_cast<const char*>(all.data()),
             static_cast<std::streamsize>(4 * all.size()));
}

std::vector<int32_t> ids_of(int64_t tokens) {
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < tokens; ++i)
    ids.push_back(static_cast<int32_t>((i * 37 + i / 7) % kVocab));
  return ids;
}

ComputeOptions compute_options() {
  ComputeOptions options;
  options.backend = &(*kernels::choose_backend("cpu_generic"))->f32();
  return options;
}

float wide(float x) {
  return x;
}
float wide(bf16 x) {
  return to_float(x);
}

// Rms of the difference of two tensors [rows, tokens, width] of one shape, over that of the second.
template <class A, class B>
double distance(TensorView<const A, 3> got, TensorView<const B, 3> want) {
  REQUIRE(got.extent == want.extent);
  double off = 0, all = 0;
  for (int64_t h = 0; h < want.extent[0]; ++h)
    for (int64_t i = 0; i < want.extent[1]; ++i)
      for (int64_t x = 0; x < want.extent[2]; ++x) {
        const auto exact = static_cast<double>(wide(want[h][i][x]));
        off += std::pow(static_cast<double>(wide(got[h][i][x])) - exact, 2);
        all += exact * exact;
      }
  return std::sqrt(off / all);
}
TensorView<const float, 3> one(TensorView<const float, 2> of) {
  return {of.data, {1, of.extent[0], of.extent[1]}, {0, of.stride[0], of.stride[1]}};
}

// A rounding is off by 2^-9 rms; what a layer adds has gone through a dozen.
double tolerance(int layers) {
  return 0x1p-9 * std::sqrt(12.0 * layers);
}

void check_forward(const std::string& architecture, int64_t tokens) {
  INFO(architecture << ", " << tokens << " tokens");
  const test::TemporaryFolder folder;
  write_model(folder.path(), architecture);
  const auto model = Model::open(folder.path());
  INFO((model ? "" : model.error().what));
  REQUIRE(model);
  const auto device = open_cuda();
  REQUIRE(device);

  const std::vector<int32_t> ids = ids_of(tokens);
  std::vector<Tensor<float, 3>> outputs;
  std::vector<Tensor<float, 2>> residuals, sums;
  auto dense = PlannedAttention::make(dense_config((*model)->spec()), tokens, compute_options());
  REQUIRE(dense);
  const auto want = (*model)->forward(ids,
                                      [&](const LayerQkv& layer, TensorView<float, 3> o) {
                                        const Status done = dense->run(layer, o);
                                        const auto keep = [](auto& list, auto view, auto extent) {
                                          list.emplace_back(extent);
                                          std::copy_n(view.data, view.size(), list.back().data());
                                        };
                                        keep(outputs, o, o.extent);
                                        keep(residuals, layer.residual, layer.residual.extent);
                                        keep(sums, dense->lse(), dense->lse().extent);
                                        return done;
                                      },
                                      {});
  REQUIRE(want);

  int layers = 0;
  const auto got = (*device)->dense(
      **model, ids, compute_options(),
      [&](const LayerDone& layer) {
        const auto at = static_cast<size_t>(layers++);
        const double allowed = tolerance(layers);
        CHECK(layer.qkv.layer + 1 == layers);
        CHECK(distance(layer.o, std::as_const(outputs[at]).view()) < allowed);
        CHECK(distance(one(layer.qkv.residual), one(residuals[at].view())) < allowed);
        CHECK(distance(one(layer.lse), one(sums[at].view())) < allowed);
        return Status{};
      },
      {});
  INFO((got ? "" : got.error().what));
  REQUIRE(got);
  CHECK(layers == kLayers);
  CHECK(distance(one(got->view()), one(want->view())) < tolerance(kLayers));
}

TEST_CASE("forward pass: that of the CPU, of families that differ between products") {
  MI_NEEDS_MACHINE();
  check_forward("LlamaForCausalLM", 65);
  check_forward("Qwen3ForCausalLM", 130);
  check_forward("Glm4ForCausalLM", 1);
  check_forward("Glm4ForCausalLM", 100);
}

TEST_CASE("forward pass: candidates score as after the CPU's") {
  MI_NEEDS_MACHINE();
  const test::TemporaryFolder folder;
  write_model(folder.path(), "LlamaForCausalLM");
  const auto model = Model::open(folder.path());
  REQUIRE(model);
  const auto device = open_cuda();
  REQUIRE(device);
  Sample sample;
  sample.ids = ids_of(200);
  const auto scored = [&](const ComputeOptions& options) {
    ScoreTable table;
    REQUIRE(score_samples(**model, {&sample, 1}, default_candidates(), options, {}, table));
    return std::move(table.samples.front().layers);
  };
  ComputeOptions options = compute_options();
  const auto want = scored(options);
  options.device = device->get();
  options.element = runtime::Element::bf16;
  const auto got = scored(options);
  REQUIRE(got.size() == want.size());
  for (size_t layer = 0; layer < want.size(); ++layer)
    for (size_t h = 0; h < want[layer].size(); ++h)
      for (size_t c = 0; c < want[layer][h].size(); ++c)
        CHECK(got[layer][h][c].recall == Approx(want[layer][h][c].recall).margin(0.02));
}

TEST_CASE("forward pass: a config is certified as by the CPU") {
  MI_NEEDS_MACHINE();
  const test::TemporaryFolder folder;
  write_model(folder.path(), "Qwen3ForCausalLM");
  const auto model = Model::open(folder.path());
  REQUIRE(model);
  const auto device = open_cuda();
  REQUIRE(device);
  Sample sample;
  sample.ids = ids_of(300);
  runtime::HeadConfig config = dense_config((*model)->spec());
  config.kernel.last = 20;
  for (auto& layer : config.layers) layer = {test::cuda::stripe(1), test::cuda::a_shape(64)};
  const auto certified = [&](const ComputeOptions& options) {
    const auto dense = dense_reference(**model, sample, options, {});
    REQUIRE(dense);
    auto pictures = PictureTaker::make(config, sample, options);
    REQUIRE(pictures);
    const auto verdict = verify_sample(**model, config, sample, *dense, options, {}, &*pictures);
    INFO((verdict ? "" : verdict.error().what));
    REQUIRE(verdict);
    return *verdict;
  };
  for (const int64_t chunk : {0, 130}) {
    INFO("chunk " << chunk);
    ComputeOptions options = compute_options();
    options.chunk = chunk;
    const SampleVerdict want = certified(options);
    options.device = device->get();
    options.element = runtime::Element::bf16;
    const SampleVerdict got = certified(options);
    CHECK(want.recall < 0.95);
    CHECK(want.kl > 1e-3);
    CHECK(got.length == want.length);
    CHECK(got.share == Approx(want.share).margin(0.02));
    CHECK(got.recall == Approx(want.recall).margin(0.01));
    CHECK(got.recall_min == Approx(want.recall_min).margin(0.02));
    CHECK(got.lost_square == Approx(want.lost_square).epsilon(0.1));
    CHECK(got.output_error == Approx(want.output_error).epsilon(0.1));
    CHECK(got.kl == Approx(want.kl).epsilon(0.2));
    CHECK(got.top1 == Approx(want.top1).margin(0.05));
    CHECK(got.notes == want.notes);
  }
}

}  // namespace
}  // namespace mi::search
