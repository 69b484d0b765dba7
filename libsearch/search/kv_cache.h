// Keys and values that later tokens attend: of a prompt that is decoded from, or that several
// questions follow.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/tensor_view.h"
#include "libsearch/model/model.h"

namespace mi::search {

// Keys and values of every layer, of the tokens so far.
template <class T>
class KvCache {
 public:
  KvCache(const ModelSpec& spec, int64_t capacity)
      : keys_({spec.decoder_layers(), spec.kv_heads, capacity, spec.head_dim}),
        values_(keys_.clone()) {}

  // The layer's own tokens become those from `at` on. Returned: the layer with all keys and values
  // up to its last token.
  [[nodiscard]] BasicLayerQkv<T> add(BasicLayerQkv<T> layer, int64_t at) {
    layer.k = add_to(keys_.view()[layer.layer], layer.k, at);
    layer.v = add_to(values_.view()[layer.layer], layer.v, at);
    return layer;
  }

 private:
  static TensorView<const T, 3> add_to(TensorView<T, 3> all, const TensorView<const T, 3>& rows,
                                       int64_t at) {
    for (int64_t head = 0; head < rows.extent[0]; ++head)
      for (int64_t row = 0; row < rows.extent[1]; ++row)
        std::copy_n(rows[head][row].data, rows.extent[2], all[head][at + row].data);
    all.extent[1] = at + rows.extent[1];
    return all;
  }
  Tensor<T, 4> keys_, values_;  // [layers, kv_heads, capacity, head_dim]
};

}  // namespace mi::search
