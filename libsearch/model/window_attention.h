// Exact attention of the layers that see a window of keys only: they are run, and not searched.
#pragma once

#include "libsearch/model/model.h"

namespace mi::search {

// o [heads, n_q, head_dim] of softmax(softcap(scale q.k)) v over the last layer.window keys of each
// row, itself among them. The queries are the last ones of the keys. softcap 0: none.
template <class T>
void window_attention(const BasicLayerQkv<T>& layer, double scale, double softcap, int threads,
                      TensorView<T, 3> o);

}  // namespace mi::search
