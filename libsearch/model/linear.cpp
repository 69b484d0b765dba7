#include "libsearch/model/linear.h"

#include <type_traits>
#include <unordered_map>

#include <dnnl.hpp>
#include <omp.h>

namespace mi::search {
namespace {

using dnnl::memory;

// oneDNN plans its blocking for the thread count it sees at creation; results may only depend on
// one thread's plan.
class OneThread {
 public:
  OneThread() : threads_(omp_get_max_threads()) { omp_set_num_threads(1); }
  ~OneThread() { omp_set_num_threads(threads_); }
  OneThread(const OneThread&) = delete;
  OneThread& operator=(const OneThread&) = delete;

 private:
  int threads_;
};

template <class T>
memory::desc describe(int rows, int columns, memory::format_tag tag) {
  constexpr auto kType = std::is_same_v<T, bf16> ? memory::data_type::bf16 : memory::data_type::f32;
  return {{rows, columns}, kType, tag};
}

dnnl::primitive_attr attributes(Epilogue epilogue, const memory::desc& result) {
  dnnl::post_ops tail;
  if (epilogue == Epilogue::silu) {
    tail.append_eltwise(1.0F, dnnl::algorithm::eltwise_swish, 1.0F, 0.0F);
  }
  if (epilogue == Epilogue::gelu) {
    tail.append_eltwise(1.0F, dnnl::algorithm::eltwise_gelu_tanh, 0.0F, 0.0F);
  }
  if (epilogue == Epilogue::multiply) {
    tail.append_binary(dnnl::algorithm::binary_mul, result);
  }
  dnnl::primitive_attr attr;
  attr.set_post_ops(tail);
  attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  return attr;
}

memory at(const memory::desc& desc, const dnnl::engine& engine, const void* data) {
  return {desc, engine, const_cast<void*>(data)};  // oneDNN's handles are never const
}

}  // namespace

template <class In, class Out>
struct Linear<In, Out>::Impl {
  dnnl::engine engine{dnnl::engine::kind::cpu, 0};
  memory::desc plain;  // weight [out, in] seen as [in, out]
  dnnl::matmul::primitive_desc desc;
  dnnl::matmul multiply;
  dnnl::reorder reorder;
};

template <class In, class Out>
Linear<In, Out>::Linear(int in, int out, Epilogue epilogue) : impl_(std::make_unique<Impl>()) {
  const OneThread guard;
  using tag = memory::format_tag;
  Impl& impl = *impl_;
  impl.plain = describe<float>(in, out, tag::ba);
  const memory::desc result = describe<Out>(kChunkRows, out, tag::ab);
  const dnnl::matmul::desc matmul(describe<In>(kChunkRows, in, tag::ab),
                                  describe<In>(in, out, tag::any), result);
  impl.desc = {matmul, attributes(epilogue, result), impl.engine};
  impl.multiply = dnnl::matmul(impl.desc);
  dnnl::primitive_attr attr;
  attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  impl.reorder = dnnl::reorder(dnnl::reorder::primitive_desc(impl.engine, impl.plain, impl.engine,
                                                             impl.desc.weights_desc(), attr));
}

template <class In, class Out>
Linear<In, Out>::~Linear() = default;

template <class In, class Out>
size_t Linear<In, Out>::packed_bytes() const {
  return impl_->desc.weights_desc().get_size();
}

template <class In, class Out>
size_t Linear<In, Out>::scratch_bytes() const {
  return impl_->desc.scratchpad_desc().get_size();
}

template <class In, class Out>
void Linear<In, Out>::pack(const float* weight, std::byte* packed) const {
  const dnnl::engine& engine = impl_->engine;
  dnnl::stream stream(engine);
  impl_->reorder.execute(stream, {{DNNL_ARG_FROM, at(impl_->plain, engine, weight)},
                                  {DNNL_ARG_TO, at(impl_->desc.weights_desc(), engine, packed)}});
  stream.wait();
}

template <class In, class Out>
void Linear<In, Out>::apply(const In* x, const std::byte* packed, Out* y, const Out* factor,
                            std::byte* scratch) const {
  const dnnl::engine& engine = impl_->engine;
  dnnl::stream stream(engine);
  std::unordered_map<int, memory> arguments = {
      {DNNL_ARG_SRC, at(impl_->desc.src_desc(), engine, x)},
      {DNNL_ARG_WEIGHTS, at(impl_->desc.weights_desc(), engine, packed)},
      {DNNL_ARG_DST, at(impl_->desc.dst_desc(), engine, y)},
      {DNNL_ARG_SCRATCHPAD, at(impl_->desc.scratchpad_desc(), engine, scratch)}};
  if (factor != nullptr) {
    arguments.emplace(DNNL_ARG_ATTR_MULTIPLE_POST_OP(0) | DNNL_ARG_SRC_1,
                      at(impl_->desc.dst_desc(), engine, factor));
  }
  impl_->multiply.execute(stream, arguments);
  stream.wait();
}

template class Linear<float, float>;
template class Linear<bf16, float>;
template class Linear<bf16, bf16>;

Status bf16_linear_available() {
  try {
    const Linear<bf16, float> smallest(1, 1, Epilogue::none);
    return {};
  } catch (const dnnl::error& error) {
    if (error.status != dnnl_unimplemented) throw;
    return fail(Code::unsupported, "oneDNN has no bf16 matrix products for this CPU");
  }
}

}  // namespace mi::search
