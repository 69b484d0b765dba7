// The forward pass against PyTorch, bit-identity over threads and lengths, bad weights and ids.
#include "libsearch/model/decoder.h"

#include <catch2/catch.hpp>

#include <cmath>
#include <cstring>

#include <nlohmann/json.hpp>
#include <omp.h>

#include "libsearch/model/linear.h"
#include "libsearch/model/row_ops.h"
#include "libsearch/search/planned_attention.h"
#include "libsearch/search/score_table.h"
#include "tests/h5_file.h"
#include "tests/search/model_support.h"

namespace mi::search {
namespace {

// The goldens are float64 with exact rotary angles; each comes with the rms error of PyTorch's own
// float32 run. The decoder sums in another order and may be as far off again: twice that error, and
// eight times for the worst of some thousand values (4 sigma of such an error).
constexpr double kRmsFactor = 2;
constexpr double kWorstFactor = 8;

double rms_error(std::span<const float> got, std::span<const float> want) {
  double sum = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    sum += std::pow(static_cast<double>(got[i]) - static_cast<double>(want[i]), 2);
  }
  return std::sqrt(sum / static_cast<double>(got.size()));
}

void check_within(std::span<const float> got, std::span<const float> want, double rms) {
  CHECK(rms_error(got, want) <= kRmsFactor * rms);
  CHECK(test::worst_difference(got, want, {kWorstFactor * kRmsFactor * rms, 0}) == "");
}

// bf16 has 8 bits: a rounding is off by 2^-8 of a value at most, by 2^-9 rms, at random. What a
// layer adds to the stream has gone through a dozen (weights and inputs of each half's products, q,
// k, v, o, gate, up), and the layers' errors add up as the layers themselves do.
double bf16_share(const ModelSpec& spec) {
  return 0x1p-9 * std::sqrt(12.0 * spec.layers);
}

template <class T>
bool can_run() {
  return std::is_same_v<T, float> || bf16_linear_available();
}

// f32 attention for a pass of either type: a bf16 one's q, k, v are widened, its o is rounded.
template <class T>
BasicAttentionFn<T> attention_of(const AttentionFn& attention) {
  if constexpr (std::is_same_v<T, float>) {
    return attention;
  } else {
    return [attention](const BasicLayerQkv<T>& layer, TensorView<T, 3> o) -> Status {
      const auto wide = [](const TensorView<const T, 3>& x) {
        Tensor<float, 3> copy(x.extent);
        widen(x.data, x.extent[2], x.extent[0] * x.extent[1], x.extent[2], copy.data());
        return copy;
      };
      const Tensor<float, 3> q = wide(layer.q), k = wide(layer.k), v = wide(layer.v);
      Tensor<float, 3> wide_o(o.extent);
      LayerQkv f32;
      f32.layer = layer.layer;
      f32.window = layer.window;
      f32.q = q.view();
      f32.k = k.view();
      f32.v = v.view();
      f32.residual = layer.residual;
      f32.wo = layer.wo;
      MI_CHECK(attention(f32, wide_o.view()));
      std::transform(wide_o.span().begin(), wide_o.span().end(), o.data, to_bf16);
      return {};
    };
  }
}

// Everything that a golden file holds, from our forward pass.
template <class T>
void check_against_golden(const Model& model, const test::H5File& golden,
                          const AttentionFn& attention, float logits_sign) {
  // The rms error that a golden value may have: PyTorch's in float32, or what bf16 does to it.
  const auto rms_of = [&](std::span<const float> want, const char* float32_rms) {
    if (std::is_same_v<T, float>) return golden.attribute(float32_rms);
    return bf16_share(model.spec()) * rms_error(want, std::vector<float>(want.size()));
  };
  const auto ids = golden.integers("ids");
  const auto positions = golden.integers("positions");
  const auto vocab_ids = golden.integers("vocab_ids");
  std::vector<float> norms;
  const BasicAttentionFn<T> attend = attention_of<T>(attention);
  const BasicAttentionFn<T> watch = [&](const BasicLayerQkv<T>& layer, TensorView<T, 3> o) {
    for (const int32_t position : positions) {
      double sum = 0;
      for (int i = 0; i < model.spec().hidden; ++i) {
        sum += std::pow(static_cast<double>(layer.residual[position][i]), 2);
      }
      norms.push_back(static_cast<float>(std::sqrt(sum)));
    }
    return attend(layer, o);
  };
  const auto hidden = model.forward(ids, watch, {});
  REQUIRE(hidden);
  const auto want_norms = golden.floats("stream_norms");
  REQUIRE(norms.size() == want_norms.size());
  std::vector<float> ratio(norms.size());
  for (size_t i = 0; i < norms.size(); ++i) ratio[i] = norms[i] / want_norms[i];
  // A ratio near 1 is itself rounded to 2^-24.
  const std::vector<float> ones(ratio.size(), 1.0F);
  check_within(ratio, ones, rms_of(ones, "float32_norms_rms_relative_error") + 0x1p-24);

  std::vector<float> rows;
  for (size_t i = 0; i < positions.size(); i += 8) {
    const float* row = hidden->view()[positions[i]].data;
    rows.insert(rows.end(), row, row + model.spec().hidden);
  }
  const auto want_rows = golden.floats("hidden");
  check_within(rows, want_rows, rms_of(want_rows, "float32_hidden_rms_error"));

  const auto want_logits = golden.floats("logits");
  const double logits_rms = rms_of(want_logits, "float32_logits_rms_error");
  std::vector<float> logits, logsumexp;
  double loss = 0;
  const auto tokens = static_cast<int64_t>(ids.size());
  constexpr int64_t kRows = 256;
  for (int64_t first = 0; first < tokens; first += kRows) {
    TensorView<const float, 2> part = std::as_const(*hidden).view();
    part.data += first * part.stride[0];
    part.extent[0] = std::min(kRows, tokens - first);
    Tensor<float, 2> out({part.extent[0], model.spec().vocab});
    REQUIRE(model.logits(part, out.view()));
    for (int64_t r = 0; r < part.extent[0]; ++r) {
      const float* row = out.view()[r].data;
      double sum = 0;
      for (int v = 0; v < model.spec().vocab; ++v) {
        sum += std::exp(static_cast<double>(logits_sign * row[v]));
      }
      const int64_t position = first + r;
      if (position + 1 < tokens) {
        loss += std::log(sum) -
                static_cast<double>(logits_sign * row[ids[static_cast<size_t>(position) + 1]]);
      }
      if (!std::binary_search(positions.begin(), positions.end(), position)) continue;
      for (const int32_t v : vocab_ids) logits.push_back(logits_sign * row[v]);
      logsumexp.push_back(static_cast<float>(std::log(sum)));
    }
  }
  check_within(logits, want_logits, logits_rms);
  check_within(logsumexp, golden.floats("logsumexp"), logits_rms);
  CHECK(loss / static_cast<double>(tokens - 1) ==
        Approx(golden.attribute("mean_loss")).margin(kWorstFactor * logits_rms).epsilon(0));
}

AttentionFn plain_attention_of(const ModelSpec& spec) {
  return
      [scale = spec.scale, softcap = spec.softcap](const LayerQkv& layer, TensorView<float, 3> o) {
        return plain_attention(layer, o, scale, softcap);
      };
}

// Where nothing is scaled or capped otherwise.
Status usual_attention(const LayerQkv& layer, TensorView<float, 3> o) {
  return plain_attention(layer, o);
}

Result<std::unique_ptr<Model>> tiny() {
  return Model::open(kTestData / "tiny-llama.gguf");
}

TEST_CASE("rows: RMS norm and rotation, by hand") {
  const float x[4] = {1, -1, 3, -3};  // mean square 5
  const float weight[4] = {1, 2, 1, 0.5F};
  float out[4];
  rms_norm(x, weight, 4.0, 4, out);  // 1 / sqrt(5 + 4) = 1/3
  CHECK(out[0] == Approx(1.0 / 3));
  CHECK(out[1] == Approx(-2.0 / 3));
  CHECK(out[2] == Approx(1));
  CHECK(out[3] == Approx(-0.5));
  const float cosine[2] = {0, 1};
  const float sine[2] = {1, 0};  // pair (0, 2) by a quarter turn, pair (1, 3) not at all
  rotate_half(x, cosine, sine, 4, 4, out);
  CHECK(out[0] == -3);
  CHECK(out[1] == -1);
  CHECK(out[2] == 1);
  CHECK(out[3] == -3);
}

float rounded(float x, float) {
  return x;
}
float rounded(float x, bf16) {
  return to_float(to_bf16(x));
}

// y = x W^T of what In can hold, against sums in double.
template <class In, class Out>
void check_linear(int in, int out, Epilogue epilogue) {
  const auto draw = [](int columns, int rows, uint64_t seed, auto type) {
    auto values = test::random_normal(static_cast<size_t>(rows * columns), seed);
    for (float& value : values) value = rounded(value, type);
    return values;
  };
  const auto x = draw(in, kChunkRows, 1, In{});
  const auto weight = draw(in, out, 2, In{});
  const auto factor = draw(out, kChunkRows, 3, Out{});
  const auto narrow = [](std::span<const float> values, auto type) {
    std::vector<decltype(type)> result(values.size());
    for (size_t i = 0; i < values.size(); ++i) store(values[i], result[i]);
    return result;
  };
  const Linear<In, Out> linear(in, out, epilogue);
  AlignedBuffer<std::byte> packed(linear.packed_bytes()), scratch(linear.scratch_bytes());
  linear.pack(weight.data(), packed.data());
  std::vector<Out> y(factor.size());
  linear.apply(narrow(x, In{}).data(), packed.data(), y.data(),
               epilogue == Epilogue::multiply ? narrow(factor, Out{}).data() : nullptr,
               scratch.data());
  std::vector<float> got(y.size()), want(y.size());
  for (size_t r = 0; r < kChunkRows; ++r) {
    for (size_t c = 0; c < static_cast<size_t>(out); ++c) {
      double sum = 0;
      for (size_t i = 0; i < static_cast<size_t>(in); ++i) {
        sum += static_cast<double>(x[r * static_cast<size_t>(in) + i]) *
               static_cast<double>(weight[c * static_cast<size_t>(in) + i]);
      }
      const size_t at = r * static_cast<size_t>(out) + c;
      if (epilogue == Epilogue::silu) sum /= 1 + std::exp(-sum);
      if (epilogue == Epilogue::multiply) sum *= static_cast<double>(factor[at]);
      want[at] = static_cast<float>(sum);
      if constexpr (std::is_same_v<Out, bf16>) {
        got[at] = to_float(y[at]);
      } else {
        got[at] = y[at];
      }
    }
  }
  // Sums of n products of standard normals: n roundings of values near sqrt(n), at random.
  const double n = in;
  const double relative = std::is_same_v<Out, bf16> ? 0x1p-8 + 1e-5 : 1e-5;
  CHECK(test::worst_difference(got, want, {16 * 0x1p-24 * n, relative}) == "");
}

TEST_CASE("linear layers of odd shapes equal sums in double") {
  const auto [in, out] = GENERATE(std::pair{1, 1}, std::pair{7, 3}, std::pair{64, 65},
                                  std::pair{33, 512}, std::pair{576, 100}, std::pair{1536, 31});
  INFO(in << " x " << out);
  for (const Epilogue epilogue : {Epilogue::none, Epilogue::silu, Epilogue::multiply}) {
    check_linear<float, float>(in, out, epilogue);
    if (!can_run<bf16>()) continue;
    check_linear<bf16, float>(in, out, epilogue);
    check_linear<bf16, bf16>(in, out, epilogue);
  }
  if (!can_run<bf16>()) MI_SKIP(bf16_linear_available().what);
}

TEMPLATE_TEST_CASE("tiny models in every file format give PyTorch's logits", "", float, bf16) {
  if (!can_run<TestType>()) MI_SKIP(bf16_linear_available().what);
  const test::H5File golden((kTestData / "tiny_llama.h5").string());
  // The sharded one has an output matrix of its own, the embedding's negative.
  const auto [file, sign] =
      GENERATE(std::pair{"tiny-llama", 1.0F}, std::pair{"tiny-llama.gguf", 1.0F},
               std::pair{"tiny-llama-shards", -1.0F});
  INFO(file);
  const auto model = Model::open(kTestData / file);
  REQUIRE(model);
  check_against_golden<TestType>(**model, golden, usual_attention, sign);
  check_against_golden<TestType>(**model, golden, dense_attention, sign);
}

TEMPLATE_TEST_CASE("every family and rotary scaling gives transformers' logits", "", float, bf16) {
  if (!can_run<TestType>()) MI_SKIP(bf16_linear_available().what);
  const std::string name = GENERATE(
      as<std::string>(), "llama-bias-linear", "llama-llama3", "llama-dynamic", "llama-yarn",
      "mistral", "qwen2", "qwen2-window", "qwen3", "qwen3moe", "qwen3moe-raw", "phi3-short",
      "phi3-long", "glm4", "gemma2", "gemma2-scale", "gemma3");
  INFO(name);
  const std::filesystem::path folder = kTestData / "families" / name;
  const test::H5File golden((folder / "golden.h5").string());
  for (const auto& path : {folder, folder / "model.gguf"}) {
    if (!std::filesystem::exists(path)) continue;  // not every one has a GGUF file
    INFO(path.filename());
    const auto model = Model::open(path);
    INFO((model ? "" : model.error().what));
    REQUIRE(model);
    CHECK((*model)->spec().architecture == name.substr(0, name.find('-')));
    const ModelSpec& spec = (*model)->spec();
    check_against_golden<TestType>(**model, golden, plain_attention_of(spec), 1);
    // And as the tools run it.
    ComputeOptions compute;
    compute.backend = &(*kernels::choose_backend())->f32();
    auto plan = PlannedAttention::make(dense_config(spec), 96, compute);
    REQUIRE(plan);
    check_against_golden<TestType>(
        **model, golden,
        [&](const LayerQkv& layer, TensorView<float, 3> o) { return plan->run(layer, o); }, 1);
  }
}

// A safetensors file with its tensors renamed, and one more.
std::string renamed(const std::string& file, const std::string& before_model,
                    const std::string& inside_model, const std::string& other) {
  uint64_t size = 0;
  std::memcpy(&size, file.data(), sizeof size);
  const auto header = nlohmann::json::parse(file.substr(8, size));
  nlohmann::json made;
  size_t end = 0;
  for (const auto& [name, value] : header.items()) {
    const bool tensor = name != "__metadata__";
    if (tensor) end = std::max(end, value["data_offsets"][1].get<size_t>());
    REQUIRE((!tensor || name.starts_with("model.")));
    made[tensor ? before_model + "model." + inside_model + name.substr(6) : name] = value;
  }
  made[other] = {{"dtype", "F32"}, {"shape", {1}}, {"data_offsets", {end, end + 4}}};
  const std::string text = made.dump();
  const uint64_t length = text.size();
  return std::string(reinterpret_cast<const char*>(&length), 8) + text + file.substr(8 + size) +
         std::string(4, '\0');
}

TEST_CASE("a multimodal checkpoint's decoder is the one of a checkpoint of text only") {
  const std::filesystem::path from = kTestData / "families" / "gemma3";
  const test::H5File golden((from / "golden.h5").string());
  const TemporaryFolder folder;
  const bool older = GENERATE(true, false);
  auto text = nlohmann::json::parse(read_file(from / "config.json"));
  text.erase("architectures");
  const nlohmann::json config = {{"architectures", {"Gemma3ForConditionalGeneration"}},
                                 {"text_config", text},
                                 {"vision_config", {{"num_hidden_layers", 2}}}};
  write_file(folder.path() / "config.json", config.dump());
  const std::string weights = read_file(from / "model.safetensors");
  write_file(folder.path() / "model.safetensors",
             older ? renamed(weights, "language_model.", "", "vision_tower.a.weight")
                   : renamed(weights, "", "language_model.", "model.multi_modal_projector.b"));
  const auto model = Model::open(folder.path());
  INFO((model ? "" : model.error().what));
  REQUIRE(model);
  check_against_golden<float>(**model, golden, plain_attention_of((*model)->spec()), 1);

  write_file(folder.path() / "model.safetensors",
             renamed(weights, "language_model.", "", "audio_tower.a.weight"));
  const auto other = Model::open(folder.path());
  REQUIRE_FALSE(other);
  CHECK_THAT(other.error().what, Catch::Contains("tensor audio_tower.a.weight has no place"));
}

TEST_CASE("a prompt beyond a sliding window is refused") {
  const auto model = Model::open(kTestData / "families" / "phi3-short");
  REQUIRE(model);
  REQUIRE((*model)->spec().most_tokens == 96);
  const auto forward = [&](size_t tokens, int64_t position) {
    const std::vector<int32_t> ids(tokens, 1);
    return (*model)->forward(ids, usual_attention, {}, position);
  };
  CHECK(forward(96, 0));
  const auto beyond = forward(97, 0);
  REQUIRE_FALSE(beyond);
  CHECK(beyond.error().code == Code::unsupported);
  CHECK_THAT(beyond.error().what, Catch::Contains("got 97 tokens, supported: up to 96"));
  CHECK(forward(1, 96).error().code == Code::unsupported);
}

TEMPLATE_TEST_CASE("the bits of a row depend neither on threads nor on the rows after it", "",
                   float, bf16) {
  if (!can_run<TestType>()) MI_SKIP(bf16_linear_available().what);
  const auto attention = attention_of<TestType>(usual_attention);
  const auto model = tiny();
  REQUIRE(model);
  std::vector<int32_t> ids;
  for (int i = 0; i < 300; ++i) ids.push_back(i * 7 % 320);
  const int threads_before = omp_get_max_threads();
  omp_set_num_threads(1);
  const auto want = (*model)->forward(ids, attention, {});
  Tensor<float, 2> want_logits({300, 320});
  REQUIRE(want);
  REQUIRE((*model)->logits(want->view(), want_logits.view()));
  for (const int threads : {2, 3, 7}) {
    omp_set_num_threads(threads);
    const auto got = (*model)->forward(ids, attention, {});
    Tensor<float, 2> logits({300, 320});
    REQUIRE(got);
    REQUIRE((*model)->logits(got->view(), logits.view()));
    CHECK(std::memcmp(got->data(), want->data(), 300 * 64 * sizeof(float)) == 0);
    CHECK(std::memcmp(logits.data(), want_logits.data(), 300 * 320 * sizeof(float)) == 0);
  }
  omp_set_num_threads(threads_before);
  for (const size_t length : {1, 63, 128, 129, 255}) {
    const auto got = (*model)->forward({ids.data(), length}, attention, {});
    REQUIRE(got);
    CHECK(std::memcmp(got->data(), want->data(), length * 64 * sizeof(float)) == 0);
  }
}

TEST_CASE("attention is called layer by layer with the shapes it is promised") {
  const auto model = tiny();
  REQUIRE(model);
  std::vector<int> layers, progress;
  const std::vector<int32_t> ids(70, 5);
  const auto hidden = (*model)->forward(
      ids,
      [&](const LayerQkv& layer, TensorView<float, 3> o) -> Status {
        layers.push_back(layer.layer);
        CHECK(layer.q.extent == std::array<int64_t, 3>{4, 70, 16});
        CHECK(layer.k.extent == std::array<int64_t, 3>{2, 70, 16});
        CHECK(layer.v.extent == std::array<int64_t, 3>{2, 70, 16});
        CHECK(layer.residual.extent == std::array<int64_t, 2>{70, 64});
        CHECK(layer.wo.extent == std::array<int64_t, 2>{64, 64});
        CHECK(o.extent == std::array<int64_t, 3>{4, 70, 16});
        return plain_attention(layer, o);
      },
      [&](int done, int of) { progress.push_back(10 * done + of); });
  REQUIRE(hidden);
  CHECK(hidden->extent(0) == 70);
  CHECK(hidden->extent(1) == 64);
  CHECK(layers == std::vector<int>{0, 1});
  CHECK(progress == std::vector<int>{12, 22});
  const auto stopped = (*model)->forward(ids,
                                         [](const LayerQkv&, TensorView<float, 3>) {
                                           return Status{Code::device, "stop"};
                                         },
                                         {});
  REQUIRE_FALSE(stopped);
  CHECK(stopped.error().code == Code::device);
}

TEST_CASE("token ids outside the vocabulary and wrong shapes are refused") {
  const auto model = tiny();
  REQUIRE(model);
  const auto forward = [&](std::vector<int32_t> ids) {
    return (*model)->forward(ids, usual_attention, {}).error();
  };
  CHECK(forward({}).code == Code::invalid_argument);
  CHECK_THAT(forward({1, 320}).what, Catch::StartsWith("token 1: got id 320, expected 0 to 319"));
  CHECK_THAT(forward({-1}).what, Catch::StartsWith("token 0: got id -1"));
  Tensor<float, 2> hidden({3, 64}), narrow({3, 319});
  const Status status = (*model)->logits(hidden.view(), narrow.view());
  CHECK(status.code == Code::invalid_argument);
  CHECK(status.what ==
        "logits: got hidden [3, 64] and out [3, 319], expected [n, 64] and [n, 320]");
}

// A copy of tiny-llama whose tensor has one 2-byte element replaced.
std::unique_ptr<Model> with_element(const TemporaryFolder& folder, const std::string& tensor,
                                    uint16_t bits) {
  for (const char* name : {"config.json", "model.safetensors"}) {
    std::filesystem::copy(kTestData / "tiny-llama" / name, folder.path() / name);
  }
  const auto path = folder.path() / "model.safetensors";
  std::string bytes = read_file(path);
  uint64_t header = 0;
  std::memcpy(&header, bytes.data(), 8);
  const auto json = nlohmann::json::parse(bytes.substr(8, header));
  const size_t place = 8 + header + json[tensor]["data_offsets"][0].get<size_t>() + 6;
  std::memcpy(bytes.data() + place, &bits, 2);
  write_file(path, bytes);
  auto model = Model::open(folder.path());
  REQUIRE(model);
  return std::move(*model);
}

TEST_CASE("NaN weights are one error that names file and tensor") {
  const std::string tensor = GENERATE(
      as<std::string>(), "model.embed_tokens.weight", "model.layers.0.self_attn.q_proj.weight",
      "model.layers.1.self_attn.o_proj.weight", "model.layers.1.mlp.down_proj.weight");
  const TemporaryFolder folder;
  const auto model = with_element(folder, tensor, 0x7e00);  // an f16 NaN
  CHECK((*model).tokenizer() == nullptr);
  const auto hidden = model->forward(std::vector<int32_t>(10, 0), usual_attention, {});
  REQUIRE_FALSE(hidden);
  CHECK(hidden.error().code == Code::schema);
  CHECK(hidden.error().what == (folder.path() / "model.safetensors").string() + ": tensor " +
                                   tensor + " holds NaN or infinity in row 0");
}

TEMPLATE_TEST_CASE("SmolLM2 at 8000 tokens gives PyTorch's logits", "[slow]", float, bf16) {
  if (!can_run<TestType>()) MI_SKIP(bf16_linear_available().what);
  if (smollm2_path().empty()) MI_SKIP("no SmolLM2 GGUF (MI_MODEL)");
  const auto model = Model::open(smollm2_path());
  REQUIRE(model);
  const test::H5File golden((kTestData / "smollm2.h5").string());
  check_against_golden<TestType>(**model, golden, dense_attention, 1);
}

}  // namespace
}  // namespace mi::search
