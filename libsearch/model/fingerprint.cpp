#include "libsearch/model/fingerprint.h"

#include <algorithm>
#include <memory>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <openssl/evp.h>

namespace mi::search {

Result<std::string> fingerprint(const ModelSpec& spec, const TensorTable& tensors) {
  constexpr size_t kSampleBytes = 4096;
  const std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> digest(EVP_MD_CTX_new(),
                                                                       &EVP_MD_CTX_free);
  bool good = digest && EVP_DigestInit_ex(digest.get(), EVP_sha256(), nullptr) == 1;
  const auto update = [&](const void* data, size_t bytes) {
    good = good && EVP_DigestUpdate(digest.get(), data, bytes) == 1;
  };
  std::string description = fmt::format(
      "mi.fingerprint 1\narchitecture {}\nlayers {}\nheads {}\nkv_heads {}\nhead_dim {}\n"
      "hidden {}\nffn {}\nvocab {}\ncontext {}\nrope_theta {}\nrms_eps {}\ntied {}\n",
      spec.architecture, spec.decoder_layers(), spec.heads, spec.kv_heads, spec.head_dim,
      spec.hidden, spec.ffn, spec.vocab, spec.context, spec.rope.theta, spec.rms_eps,
      spec.tied_embeddings);
  // What Llama has not is named where a model has it, so that Llamas keep their fingerprints.
  const Rope& rope = spec.rope;
  if (rope.scaling != RopeScaling::none || rope.dim != spec.head_dim)
    description += fmt::format(
        "rope {} {} {} {} {} {} {} {} {} {} {} {}\n", static_cast<int>(rope.scaling), rope.dim,
        rope.factor, rope.attention_factor, rope.original_context, rope.low_factor,
        rope.high_factor, rope.beta_fast, rope.beta_slow, rope.truncate,
        fmt::join(rope.short_factors, " "), fmt::join(rope.long_factors, " "));
  if (spec.most_tokens > 0) description += fmt::format("window {}\n", spec.most_tokens);
  if (spec.layers < spec.decoder_layers())
    description += fmt::format("windows {}\n", fmt::join(spec.windows, " "));
  if (spec.scale > 0 || spec.softcap > 0 || spec.logit_softcap > 0)
    description +=
        fmt::format("scale {} softcap {} {}\n", spec.scale, spec.softcap, spec.logit_softcap);
  if (spec.experts > 0)
    description +=
        fmt::format("experts {} {} {}\n", spec.experts, spec.experts_used, spec.norm_experts);
  update(description.data(), description.size());
  std::vector<const WeightTensor*> sorted;
  for (const WeightTensor& tensor : tensors.tensors()) sorted.push_back(&tensor);
  std::sort(sorted.begin(), sorted.end(),
            [](const WeightTensor* a, const WeightTensor* b) { return a->name < b->name; });
  for (const WeightTensor* tensor : sorted) {
    const std::string line =
        fmt::format("{} {} {}\n", tensor->name, to_string(tensor->type), shape_text(tensor->shape));
    update(line.data(), line.size());
    update(tensor->data.data(), std::min(kSampleBytes, tensor->data.size()));
  }
  unsigned char bytes[EVP_MAX_MD_SIZE];
  unsigned length = 0;
  good = good && EVP_DigestFinal_ex(digest.get(), bytes, &length) == 1;
  if (!good) return fail(Code::internal, "SHA-256 is not available in this OpenSSL");
  std::string text = "sha256:";
  for (unsigned i = 0; i < length; ++i) text += fmt::format("{:02x}", bytes[i]);
  return text;
}

}  // namespace mi::search
