// Each call of a wave, by the launch function that is for it.
#pragma once

#include "kernels/cuda/launch.h"
#include "libruntime/cuda/device_layers.h"

namespace mi::runtime {

template <class T>
struct Launcher {
  int head_dim;
  CUstream_st* stream;

  Status operator()(const kernels::cuda::PutCall& call) const {
    return kernels::cuda::launch_put(call, stream);
  }
  Status operator()(const kernels::cuda::EstimateCall<T>& call) const {
    return kernels::cuda::launch_stripes(call, head_dim, stream);
  }
  Status operator()(const kernels::cuda::VerticalCall<T>& call) const {
    return kernels::cuda::launch_vertical(call, head_dim, stream);
  }
  Status operator()(const kernels::cuda::PooledCall<T>& call) const {
    return kernels::cuda::launch_pooled(call, stream);
  }
  Status operator()(const kernels::cuda::AntidiagonalCall<T>& call) const {
    return kernels::cuda::launch_antidiagonal(call, head_dim, stream);
  }
  Status operator()(const kernels::cuda::SpendCall& call) const {
    return kernels::cuda::launch_spend(call, stream);
  }
  Status operator()(const kernels::cuda::SelectCall& call, bool shares_cap) const {
    return kernels::cuda::launch_select(call, shares_cap, stream);
  }
  Status operator()(const kernels::cuda::IndexCall& call) const {
    return kernels::cuda::launch_index(call, stream);
  }
  Status operator()(const kernels::cuda::AttendCall<T>& call, int64_t items) const {
    return kernels::cuda::launch_attend(call, items, head_dim, stream);
  }
  Status operator()(const kernels::cuda::ReportCall& call) const {
    return kernels::cuda::launch_report(call, stream);
  }
  Status operator()(const WaveCalls<T>& calls) const { return for_each_launch(calls, *this); }
};

}  // namespace mi::runtime
