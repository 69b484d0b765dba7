#include "libsearch/model/model.h"

#include <algorithm>
#include <new>
#include <optional>
#include <type_traits>

#include <dnnl.hpp>
#include <fmt/format.h>

#include "libsearch/model/piece_tokenizer.h"
#include "libsearch/model/decoder.h"
#include "libsearch/model/families/family.h"
#include "libsearch/model/fingerprint.h"
#include "libsearch/model/gguf.h"
#include "libsearch/model/gguf_config.h"
#include "libsearch/model/hf_config.h"
#include "libsearch/model/safetensors.h"
#include "libsearch/model/utf8.h"

namespace mi::search {
namespace {

namespace fs = std::filesystem;

// What libraries throw becomes a Status at the public functions.
template <class Body>
std::invoke_result_t<Body> guarded(const std::string& place, const Body& body) {
  try {
    return body();
  } catch (const std::bad_alloc&) {
    return fail(Code::out_of_memory, fmt::format("{}: not enough memory", place));
  } catch (const dnnl::error& error) {
    const bool memory = error.status == dnnl_out_of_memory;
    return fail(memory ? Code::out_of_memory : Code::internal,
                fmt::format("{}: oneDNN: {}", place, error.what()));
  } catch (const std::exception& error) {
    return fail(Code::internal, fmt::format("{}: {}", place, error.what()));
  }
}

struct Parts {
  ModelSpec spec;
  TensorTable tensors;
  NameScheme scheme = NameScheme::hugging_face;
  std::unique_ptr<Tokenizer> tokenizer;  // null: none, or one that is not supported
  Status tokenizer_status;
};

class LoadedModel final : public Model {
 public:
  LoadedModel(Parts parts, std::string path) : parts_(std::move(parts)), path_(std::move(path)) {}

  [[nodiscard]] Status bind() {
    for (const ModelFamily& family : families()) {
      if (family.name != parts_.spec.architecture) continue;
      MI_TRY(auto weights, search::bind(family, parts_.spec, parts_.tensors, parts_.scheme, path_));
      MI_TRY(parts_.spec.fingerprint, fingerprint(parts_.spec, parts_.tensors));
      decoder_.emplace(parts_.spec, parts_.tensors, std::move(weights), path_);
      return {};
    }
    return fail(Code::internal, "no family of this name");
  }

  [[nodiscard]] const ModelSpec& spec() const override { return parts_.spec; }
  [[nodiscard]] const Tokenizer* tokenizer() const override { return parts_.tokenizer.get(); }
  [[nodiscard]] Status tokenizer_status() const override { return parts_.tokenizer_status; }
  [[nodiscard]] Result<Tensor<float, 2>> forward(std::span<const int32_t> ids,
                                                 const AttentionFn& attention,
                                                 const LayerProgressFn& progress,
                                                 int64_t position) const override {
    return guarded(path_, [&] { return decoder_->forward(ids, attention, progress, position); });
  }
  [[nodiscard]] Result<Tensor<float, 2>> forward(std::span<const int32_t> ids,
                                                 const BasicAttentionFn<bf16>& attention,
                                                 const LayerProgressFn& progress,
                                                 int64_t position) const override {
    return guarded(path_, [&] { return decoder_->forward(ids, attention, progress, position); });
  }
  [[nodiscard]] const Decoder* decoder() const override { return &*decoder_; }
  [[nodiscard]] Status logits(TensorView<const float, 2> hidden,
                              TensorView<float, 2> out) const override {
    return guarded(path_, [&] { return decoder_->logits(hidden, out); });
  }

 private:
  Parts parts_;
  std::string path_;
  std::optional<Decoder> decoder_;
};

// A tokenizer of an unsupported kind leaves a model that can be searched with token ids; a broken
// one, or one that is not this model's, is an error.
Status set_tokenizer(Result<std::unique_ptr<Tokenizer>> tokenizer, const std::string& file,
                     Parts& parts) {
  if (!tokenizer) {
    parts.tokenizer_status = tokenizer.error();
    return tokenizer.error().code == Code::unsupported ? Status{} : tokenizer.error();
  }
  if ((*tokenizer)->vocab() > parts.spec.vocab) {
    return fail(Code::schema, fmt::format("{}: the tokenizer has {} ids, the model {}", file,
                                          (*tokenizer)->vocab(), parts.spec.vocab));
  }
  parts.tokenizer = std::move(*tokenizer);
  return {};
}

// Names go into tables and YAML.
bool is_printable(const std::string& name) {
  return !name.empty() && !find_invalid_utf8(name) &&
         std::none_of(name.begin(), name.end(), [](char c) { return c >= 0 && c < ' '; });
}

Result<Parts> open_gguf(const fs::path& path) {
  MI_TRY(auto mapped, MappedFile::open(path));
  MI_TRY(GgufFile file, GgufFile::parse(mapped->bytes(), path.string()));
  Parts parts;
  parts.scheme = NameScheme::gguf;
  MI_TRY(parts.spec, read_gguf_config(file));
  if (!is_printable(parts.spec.name)) parts.spec.name = path.stem().string();
  if (!is_printable(parts.spec.name)) parts.spec.name = "model";
  if (file.has("tokenizer.ggml.model")) {
    MI_CHECK(set_tokenizer(read_gguf_tokenizer(file), path.string(), parts));
  } else {
    parts.tokenizer_status = {Code::unsupported, path.string() + ": the file has no tokenizer"};
  }
  parts.tensors = std::move(file).take_tensors();
  parts.tensors.keep(std::move(mapped));
  return parts;
}

Status read_tokenizer(const fs::path& directory, Parts& parts) {
  const fs::path json = directory / "tokenizer.json";
  const fs::path model = directory / "tokenizer.model";
  if (fs::exists(json)) {
    MI_TRY(const std::string text, read_text_file(json));
    return set_tokenizer(parse_tokenizer_json(text, json.string()), json.string(), parts);
  }
  if (fs::exists(model)) return set_tokenizer(open_sentencepiece(directory), model.string(), parts);
  parts.tokenizer_status = {
      Code::unsupported,
      directory.string() + ": there is no tokenizer.json and no tokenizer.model"};
  return {};
}

Result<Parts> open_directory(const fs::path& path) {
  const fs::path config = path / "config.json";
  Parts parts;
  if (!fs::exists(config)) {
    return fail(Code::io, fmt::format("{}: No such file or directory (expected in a Hugging Face "
                                      "directory; a GGUF file is given by its own path)",
                                      config.string()));
  }
  MI_TRY(const std::string text, read_text_file(config));
  MI_TRY(parts.spec, parse_hf_config(text, config.string()));
  // "models/llama/" and "." name a directory too.
  parts.spec.name = fs::weakly_canonical(path).filename().string();
  if (!is_printable(parts.spec.name)) parts.spec.name = "model";
  MI_TRY(parts.tensors, open_safetensors(path));
  if (parts.spec.beside_others) {
    MI_TRY(parts.tensors, parts.tensors.decoder_of_multimodal());
  }
  MI_CHECK(read_tokenizer(path, parts));
  return parts;
}

}  // namespace

Result<std::unique_ptr<Model>> Model::open(const fs::path& path) {
  return guarded(path.string(), [&]() -> Result<std::unique_ptr<Model>> {
    std::error_code missing;  // is reported when the file is opened
    MI_TRY(Parts parts, fs::is_directory(path, missing) ? open_directory(path) : open_gguf(path));
    auto model = std::make_unique<LoadedModel>(std::move(parts), path.string());
    MI_CHECK(model->bind());
    return std::unique_ptr<Model>(std::move(model));
  });
}

}  // namespace mi::search
