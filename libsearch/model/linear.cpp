#include "libsearch/model/linear.h"

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

memory::desc describe(int rows, int columns, memory::format_tag tag) {
  return {{rows, columns}, memory::data_type::f32, tag};
}

dnnl::primitive_attr attributes(int out, Epilogue epilogue) {
  dnnl::post_ops tail;
  if (epilogue == Epilogue::silu) {
    tail.append_eltwise(1.0F, dnnl::algorithm::eltwise_swish, 1.0F, 0.0F);
  }
  if (epilogue == Epilogue::multiply) {
    tail.append_binary(dnnl::algorithm::binary_mul,
                       describe(kChunkRows, out, memory::format_tag::ab));
  }
  dnnl::primitive_attr attr;
  attr.set_post_ops(tail);
  attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  return attr;
}

memory at(const memory::desc& desc, const dnnl::engine& engine, const float* data) {
  return {desc, engine, const_cast<float*>(data)};  // oneDNN's handles are never const
}

}  // namespace

struct Linear::Impl {
  dnnl::engine engine{dnnl::engine::kind::cpu, 0};
  memory::desc plain;  // weight [out, in] seen as [in, out]
  dnnl::matmul::primitive_desc desc;
  dnnl::matmul multiply;
  dnnl::reorder reorder;
};

Linear::Linear(int in, int out, Epilogue epilogue) : impl_(std::make_unique<Impl>()) {
  const OneThread guard;
  using tag = memory::format_tag;
  Impl& impl = *impl_;
  impl.plain = describe(in, out, tag::ba);
  const dnnl::matmul::desc matmul(describe(kChunkRows, in, tag::ab), describe(in, out, tag::any),
                                  describe(kChunkRows, out, tag::ab));
  impl.desc = {matmul, attributes(out, epilogue), impl.engine};
  impl.multiply = dnnl::matmul(impl.desc);
  dnnl::primitive_attr attr;
  attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  impl.reorder = dnnl::reorder(dnnl::reorder::primitive_desc(impl.engine, impl.plain, impl.engine,
                                                             impl.desc.weights_desc(), attr));
}

Linear::~Linear() = default;

size_t Linear::packed_floats() const {
  return (impl_->desc.weights_desc().get_size() + sizeof(float) - 1) / sizeof(float);
}

size_t Linear::scratch_floats() const {
  return (impl_->desc.scratchpad_desc().get_size() + sizeof(float) - 1) / sizeof(float);
}

void Linear::pack(const float* weight, float* packed) const {
  const dnnl::engine& engine = impl_->engine;
  dnnl::stream stream(engine);
  impl_->reorder.execute(stream, {{DNNL_ARG_FROM, at(impl_->plain, engine, weight)},
                                  {DNNL_ARG_TO, at(impl_->desc.weights_desc(), engine, packed)}});
  stream.wait();
}

void Linear::apply(const float* x, const float* packed, float* y, const float* factor,
                   float* scratch) const {
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

}  // namespace mi::search
