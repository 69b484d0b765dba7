#include "libsearch/search/decode.h"

#include <algorithm>
#include <new>
#include <optional>
#include <type_traits>

#include "libsearch/search/kv_cache.h"
#include "libsearch/search/planned_attention.h"

namespace mi::search {
namespace {

template <class T>
Result<std::vector<int32_t>> decode(const Model& model, const runtime::HeadConfig& config,
                                    std::span<const int32_t> prompt, int64_t most,
                                    const ComputeOptions& options, const StopFn& stop) {
  constexpr auto kElement =
      std::is_same_v<T, bf16> ? runtime::Element::bf16 : runtime::Element::f32;
  const ModelSpec& spec = model.spec();
  const runtime::HeadConfig everything = dense_config(spec);
  const auto prompt_tokens = static_cast<int64_t>(prompt.size());
  KvCache<T> cache(spec, prompt_tokens + most);
  Tensor<float, 2> logits({1, spec.vocab});
  std::vector<int32_t> generated;

  // Passes the tokens from position `at` on, and takes the one that the model likes best after
  // them.
  const auto advance = [&](std::span<const int32_t> ids, int64_t at,
                           const runtime::HeadConfig& by) -> Status {
    const auto rows = static_cast<int64_t>(ids.size());
    MI_TRY(PlannedAttention attention,
           PlannedAttention::make(by, rows, options, kElement, at + rows));
    const BasicAttentionFn<T> attend = [&](const BasicLayerQkv<T>& layer, TensorView<T, 3> o) {
      return attention.run(cache.add(layer, at), o);
    };
    MI_TRY(const auto hidden, model.forward(ids, attend, {}, at));
    MI_CHECK(model.logits({hidden.view()[rows - 1].data, {1, spec.hidden}}, logits.view()));
    const auto values = logits.span();
    generated.push_back(
        static_cast<int32_t>(std::max_element(values.begin(), values.end()) - values.begin()));
    return {};
  };

  const auto enough = [&] {
    return std::ssize(generated) >= most || (stop && !generated.empty() && stop(generated));
  };
  if (enough()) return generated;
  MI_CHECK(advance(prompt, 0, config));
  while (!enough()) {
    const int32_t last = generated.back();
    MI_CHECK(advance({&last, 1}, prompt_tokens + std::ssize(generated) - 1, everything));
  }
  return generated;
}

}  // namespace

Result<std::vector<int32_t>> decode_greedily(const Model& model, const runtime::HeadConfig& config,
                                             std::span<const int32_t> prompt, int64_t most,
                                             const ComputeOptions& options,
                                             const StopFn& stop) try {
  if (prompt.empty()) return fail(Code::invalid_argument, "decoding: got no prompt");
  return options.element == runtime::Element::bf16
             ? decode<bf16>(model, config, prompt, most, options, stop)
             : decode<float>(model, config, prompt, most, options, stop);
} catch (const std::bad_alloc&) {
  return fail(Code::out_of_memory, "decoding: not enough memory for a prompt of this length");
}

}  // namespace mi::search
