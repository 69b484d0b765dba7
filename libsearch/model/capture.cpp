#include "libsearch/model/capture.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <limits>
#include <new>
#include <type_traits>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "libruntime/config.h"
#include "libsearch/data/h5_image.h"
#include "libsearch/model/sha256.h"
#include "libsearch/model/spec_check.h"
#include "libsearch/model/utf8.h"

namespace mi::search {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kMaxTokens = int64_t{1} << 24;

std::string dataset(int layer, std::string_view name) {
  return fmt::format("layer_{:03}/{}", layer, name);
}

// What HDF5 throws, and memory, as the file's error.
template <class Body>
std::invoke_result_t<Body> guarded(const fs::path& path, const Body& body) {
  try {
    return body();
  } catch (const std::bad_alloc&) {
    return fail(Code::out_of_memory, fmt::format("{}: not enough memory", path.string()));
  } catch (const std::exception& error) {
    return fail(Code::schema, fmt::format("{}: {}", path.string(), error.what()));
  }
}

// "5,11,17": rising, from 0 on.
bool read_layers(std::string_view text, std::vector<int>& layers) {
  const char* at = text.data();
  const char* end = at + text.size();
  for (;;) {
    int layer = -1;
    const auto [next, error] = std::from_chars(at, end, layer);
    if (error != std::errc{} || layer <= (layers.empty() ? -1 : layers.back())) return false;
    layers.push_back(layer);
    if (next == end) return true;
    if (*next != ',') return false;
    at = next + 1;
  }
}

class CaptureFile {
 public:
  [[nodiscard]] static Result<std::unique_ptr<CaptureFile>> open(const fs::path& path);

  [[nodiscard]] const ModelSpec& spec() const { return spec_; }
  [[nodiscard]] int64_t tokens() const { return tokens_; }
  [[nodiscard]] const std::string& source() const { return source_; }
  [[nodiscard]] const fs::path& path() const { return path_; }

  // What search.h calls the stream and the output projection are in the file too.
  [[nodiscard]] bool has_residual() const { return has_residual_; }
  [[nodiscard]] bool has_sinks() const { return has_sinks_; }

  // Rows [0, rows) of every head as T; what has no heads has one.
  template <class T>
  [[nodiscard]] Result<Tensor<T, 3>> read(int layer, std::string_view name, int64_t rows) const;
  // [heads] of a file that has them.
  [[nodiscard]] Result<std::vector<float>> sinks(int layer) const;
  // Of what the first layer's keys are: tells captures of other prompts apart.
  [[nodiscard]] Result<std::string> digest() const;

 private:
  explicit CaptureFile(const fs::path& path) : reader_(H5Reader::OnDisk{path}), path_(path) {}
  [[nodiscard]] Status read_attributes();
  [[nodiscard]] std::vector<std::string_view> names() const {
    std::vector<std::string_view> names{"q", "k", "v"};
    if (has_residual_) names.insert(names.end(), {"residual", "wo"});
    if (has_sinks_) names.emplace_back("sinks");
    return names;
  }
  [[nodiscard]] std::vector<uint64_t> extent(std::string_view name) const {
    const auto tokens = static_cast<uint64_t>(tokens_);
    const auto dim = static_cast<uint64_t>(spec_.head_dim);
    const auto hidden = static_cast<uint64_t>(spec_.hidden);
    const auto heads = static_cast<uint64_t>(spec_.heads);
    if (name == "residual") return {tokens, hidden};
    if (name == "wo") return {hidden, heads * dim};
    if (name == "sinks") return {heads};
    return {name == "q" ? heads : static_cast<uint64_t>(spec_.kv_heads), tokens, dim};
  }
  [[nodiscard]] std::vector<float> values(int layer, std::string_view name) const;

  H5Reader reader_;
  fs::path path_;
  ModelSpec spec_;
  int64_t tokens_ = 0;
  bool has_residual_ = false;
  bool has_sinks_ = false;
  std::string source_;
};

Result<std::unique_ptr<CaptureFile>> CaptureFile::open(const fs::path& path) {
  std::error_code error;
  if (!fs::is_regular_file(path, error))
    return fail(Code::io, fmt::format("{}: found no file, expected a capture", path.string()));
  return guarded(path, [&]() -> Result<std::unique_ptr<CaptureFile>> {
    std::unique_ptr<CaptureFile> file(new CaptureFile(path));
    MI_CHECK(file->read_attributes());
    for (int layer = 0; layer < file->spec_.layers; ++layer)
      for (const std::string_view name : file->names()) {
        const std::string place = dataset(layer, name);
        const auto found = file->reader_.extent(place);
        const auto expected = file->extent(name);
        if (!std::equal(found.begin(), found.end(), expected.begin(), expected.end()))
          return fail(Code::schema,
                      fmt::format("{}: {}: found [{}], expected [{}]", path.string(), place,
                                  fmt::join(found, ", "), fmt::join(expected, ", ")));
      }
    return file;
  });
}

Status CaptureFile::read_attributes() {
  const auto wrong = [&](std::string_view what) {
    return fail(Code::schema, fmt::format("{}: {}", path_.string(), what));
  };
  const std::string schema = reader_.text_attribute("schema");
  const int64_t version = reader_.integer_attribute("schema_version");
  if (schema != "mi.capture" || version != kCaptureVersion)
    return wrong(fmt::format("found schema {} version {}, expected mi.capture version {}", schema,
                             version, kCaptureVersion));
  const auto size = [&](const std::string& name, int64_t most, auto& field) -> Status {
    const int64_t value = reader_.integer_attribute(name);
    if (value < 1 || value > most)
      return wrong(fmt::format("attribute {}: found {}, expected 1 to {}", name, value, most));
    field = static_cast<std::remove_reference_t<decltype(field)>>(value);
    return {};
  };
  MI_CHECK(size("layers", kMaxLayers, spec_.layers));
  MI_CHECK(size("heads", kMaxWidth, spec_.heads));
  MI_CHECK(size("kv_heads", kMaxWidth, spec_.kv_heads));
  MI_CHECK(size("head_dim", kMaxWidth, spec_.head_dim));
  MI_CHECK(size("tokens", kMaxTokens, tokens_));
  spec_.name = reader_.text_attribute("model");
  spec_.architecture = reader_.text_attribute("architecture");
  source_ = reader_.has_attribute("source") ? reader_.text_attribute("source")
                                            : path_.filename().string();
  for (const std::string& text : {spec_.name, spec_.architecture, source_})
    if (text.empty() || find_invalid_utf8(text))
      return wrong("attributes model, architecture and source: expected UTF-8, not empty");
  const auto number = [&](const std::string& name, double fallback) {
    return reader_.has_attribute(name) ? reader_.number_attribute(name) : fallback;
  };
  spec_.rope.theta = number("rope_theta", 10000);
  spec_.rope.dim = spec_.head_dim;
  spec_.hidden = std::min<int>(kMaxWidth, spec_.heads * spec_.head_dim);
  has_residual_ = reader_.has_attribute("hidden");
  if (has_residual_) MI_CHECK(size("hidden", kMaxWidth, spec_.hidden));
  for (int layer = 0; layer < spec_.layers; ++layer)  // one that lacks them is told when it is read
    has_sinks_ =
        has_sinks_ || (reader_.has(dataset(layer, "q")) && reader_.has(dataset(layer, "sinks")));
  spec_.context = tokens_;
  MI_CHECK(check_spec(spec_, path_.string()));
  const double usual = runtime::attention_scale(0, spec_.head_dim);
  const double scale = number("scale", usual);
  if (!(scale > 0 && scale < 1e6))
    return wrong(fmt::format("attribute scale: found {}, expected a number above 0", scale));
  if (std::abs(scale / usual - 1) > 1e-6) spec_.scale = scale;
  spec_.softcap = number("softcap", 0);
  if (!(spec_.softcap >= 0 && spec_.softcap < 1e9))
    return wrong(fmt::format("attribute softcap: found {}, expected 0 (none) or a number above it",
                             spec_.softcap));
  if (reader_.has_attribute("attention_layers")) {
    const std::string text = reader_.text_attribute("attention_layers");
    if (!read_layers(text, spec_.attention_layers) ||
        std::ssize(spec_.attention_layers) != spec_.layers)
      return wrong(
          fmt::format("attribute attention_layers: found \"{}\", expected {} rising "
                      "numbers, comma-separated",
                      text, spec_.layers));
  }
  return {};
}

std::vector<float> CaptureFile::values(int layer, std::string_view name) const {
  const std::string place = dataset(layer, name);
  if (!reader_.is_bf16(place)) return reader_.floats(place, extent(name));
  const std::vector<uint16_t> bits = reader_.halves(place, extent(name));
  std::vector<float> wide(bits.size());
  for (size_t i = 0; i < bits.size(); ++i) wide[i] = to_float(bf16{bits[i]});
  return wide;
}

template <class T>
Result<Tensor<T, 3>> CaptureFile::read(int layer, std::string_view name, int64_t rows) const {
  return guarded(path_, [&]() -> Result<Tensor<T, 3>> {
    const std::vector<float> all = values(layer, name);
    const std::vector<uint64_t> whole = extent(name);
    const auto heads = static_cast<int64_t>(whole.size() == 3 ? whole[0] : 1);
    const auto rows_in_all = static_cast<int64_t>(whole[whole.size() - 2]);
    const auto columns = static_cast<int64_t>(whole.back());
    Tensor<T, 3> out({heads, rows, columns});
    for (int64_t h = 0; h < heads; ++h)
      for (int64_t i = 0; i < rows; ++i) {
        const float* row = all.data() + (h * rows_in_all + i) * columns;
        T* to = out.view()[h][i].data;
        for (int64_t x = 0; x < columns; ++x) {
          if (!std::isfinite(row[x])) {
            const std::string head = whole.size() == 3 ? fmt::format("{}, ", h) : "";
            return fail(Code::schema,
                        fmt::format("{}: {}: found {} at [{}{}, {}], expected finite numbers",
                                    path_.string(), dataset(layer, name), row[x], head, i, x));
          }
          to[x] = narrowed<T>(row[x]);
        }
      }
    return out;
  });
}

Result<std::vector<float>> CaptureFile::sinks(int layer) const {
  return guarded(path_, [&]() -> Result<std::vector<float>> {
    std::vector<float> sinks = values(layer, "sinks");
    for (size_t h = 0; h < sinks.size(); ++h)
      if (!std::isfinite(sinks[h]))
        return fail(Code::schema,
                    fmt::format("{}: {}: found {} at [{}], expected finite numbers", path_.string(),
                                dataset(layer, "sinks"), sinks[h], h));
    return sinks;
  });
}

Result<std::string> CaptureFile::digest() const {
  return guarded(path_, [&]() -> Result<std::string> {
    const std::vector<float> keys = values(0, "k");
    return sha256_hex({reinterpret_cast<const char*>(keys.data()), keys.size() * sizeof(float)});
  });
}

class CaptureModel final : public Model {
 public:
  CaptureModel(ModelSpec spec, std::vector<std::unique_ptr<CaptureFile>> files)
      : spec_(std::move(spec)), files_(std::move(files)) {}
  [[nodiscard]] const ModelSpec& spec() const override { return spec_; }
  [[nodiscard]] const Tokenizer* tokenizer() const override { return nullptr; }
  [[nodiscard]] Result<Tensor<float, 2>> forward(std::span<const int32_t> ids,
                                                 const AttentionFn& attention,
                                                 const LayerProgressFn& progress,
                                                 int64_t position) const override {
    return run<float>(ids, attention, progress, position);
  }
  [[nodiscard]] Result<Tensor<float, 2>> forward(std::span<const int32_t> ids,
                                                 const BasicAttentionFn<bf16>& attention,
                                                 const LayerProgressFn& progress,
                                                 int64_t position) const override {
    return run<bf16>(ids, attention, progress, position);
  }
  [[nodiscard]] Status logits(TensorView<const float, 2>, TensorView<float, 2>) const override {
    return fail(Code::unsupported, "a capture has no logits");
  }

 private:
  template <class T>
  [[nodiscard]] Result<Tensor<float, 2>> run(std::span<const int32_t> ids,
                                             const BasicAttentionFn<T>& attention,
                                             const LayerProgressFn& progress,
                                             int64_t position) const {
    const auto tokens = static_cast<int64_t>(ids.size());
    const bool known = !ids.empty() && ids[0] >= 0 && ids[0] < std::ssize(files_) &&
                       position == 0 && tokens <= files_[static_cast<size_t>(ids[0])]->tokens();
    if (!known)
      return fail(Code::invalid_argument, "a capture: expected its own sample, or its beginning");
    const CaptureFile& file = *files_[static_cast<size_t>(ids[0])];
    for (int layer = 0; layer < spec_.layers; ++layer) {
      MI_TRY(const auto q, file.read<T>(layer, "q", tokens));
      MI_TRY(const auto k, file.read<T>(layer, "k", tokens));
      MI_TRY(const auto v, file.read<T>(layer, "v", tokens));
      Tensor<T, 3> o({spec_.heads, tokens, spec_.head_dim});
      Tensor<float, 3> residual, wo;
      std::vector<float> sinks;
      BasicLayerQkv<T> qkv;
      if (file.has_residual()) {
        MI_TRY(residual, file.read<float>(layer, "residual", tokens));
        MI_TRY(wo, file.read<float>(layer, "wo", spec_.hidden));
        qkv.residual = std::as_const(residual).view()[0];
        qkv.wo = std::as_const(wo).view()[0];
      }
      if (file.has_sinks()) {
        MI_TRY(sinks, file.sinks(layer));
        qkv.sinks = sinks;
      }
      qkv.layer = layer;
      qkv.q = q.view();
      qkv.k = k.view();
      qkv.v = v.view();
      MI_CHECK(attention(qkv, o.view()));
      if (progress) progress(layer + 1, spec_.layers);
    }
    return Tensor<float, 2>({0, 0});
  }

  ModelSpec spec_;
  std::vector<std::unique_ptr<CaptureFile>> files_;
};

std::string shape_of(const ModelSpec& spec) {
  std::string shape =
      fmt::format("{} ({}, {} layers, {} heads, {} kv_heads, head_dim {}", spec.name,
                  spec.architecture, spec.layers, spec.heads, spec.kv_heads, spec.head_dim);
  if (spec.hidden != std::min<int>(kMaxWidth, spec.heads * spec.head_dim))
    shape += fmt::format(", hidden {}", spec.hidden);
  if (spec.scale > 0) shape += fmt::format(", scale {}", spec.scale);
  if (spec.softcap > 0) shape += fmt::format(", softcap {}", spec.softcap);
  if (!spec.attention_layers.empty())
    shape += fmt::format(", the model's layers {}", fmt::join(spec.attention_layers, ","));
  return shape + ")";
}

}  // namespace

Result<Captured> open_captures(std::span<const fs::path> paths) {
  std::vector<std::unique_ptr<CaptureFile>> files;
  for (const fs::path& path : paths) {
    MI_TRY(auto file, CaptureFile::open(path));
    files.push_back(std::move(file));
    const std::string own = shape_of(files.back()->spec());
    const std::string first = shape_of(files.front()->spec());
    if (own != first)
      return fail(Code::schema, fmt::format("{}: found {}, expected {} as in {}", path.string(),
                                            own, first, paths.front().string()));
    if (files.back()->has_sinks() != files.front()->has_sinks())
      return fail(
          Code::schema,
          fmt::format("{}: found {} attention sinks, expected {} as in {}", path.string(),
                      files.back()->has_sinks() ? "layers with" : "no",
                      files.front()->has_sinks() ? "some" : "none", paths.front().string()));
  }
  if (files.empty()) return fail(Code::invalid_argument, "captures: found none, expected some");
  Captured captured;
  ModelSpec spec = files.front()->spec();
  for (size_t i = 0; i < files.size(); ++i) {
    Sample sample;
    sample.source = "capture " + files[i]->source();
    sample.kind = "capture";
    const int64_t tokens = files[i]->tokens();
    const auto count = std::ssize(files);
    if (tokens > std::numeric_limits<int32_t>::max() / count)
      return fail(Code::invalid_argument, "captures: too many");
    for (int64_t t = 0; t < tokens; ++t)
      sample.ids.push_back(static_cast<int32_t>(t * count + static_cast<int64_t>(i)));
    MI_TRY(sample.sha256, files[i]->digest());
    sample.answer_begin = sample.answer_end = tokens;
    spec.context = std::max(spec.context, tokens);
    captured.samples.push_back(std::move(sample));
  }
  MI_TRY(const std::string digest, sha256_hex(shape_of(spec)));
  spec.fingerprint = "sha256:" + digest;
  captured.model = std::make_unique<CaptureModel>(std::move(spec), std::move(files));
  return captured;
}

}  // namespace mi::search
