#include "kernels/cuda/launch.h"

#include <string>

namespace mi::kernels::cuda {
namespace {

template <class T>
Status check_tensor(const char* name, const Strided<T>& tensor) {
  if (tensor.data == nullptr)
    return fail(Code::invalid_argument, std::string(name) + ": got a null pointer");
  if (reinterpret_cast<uintptr_t>(tensor.data) % 16 != 0)
    return fail(Code::unsupported, std::string(name) + ": got a pointer not aligned to 16 bytes");
  if (tensor.token_stride % 8 != 0 || tensor.head_stride % 8 != 0)
    return fail(Code::unsupported, std::string(name) + ": got strides " +
                                       std::to_string(tensor.token_stride) + " (token) and " +
                                       std::to_string(tensor.head_stride) +
                                       " (head), CUDA kernels support multiples of 8 elements");
  return {};
}

}  // namespace

template <class T>
Status check_sequence(const Sequence<T>& of) {
  if (of.n_q < 1 || of.n_q > of.n_kv || of.n_kv > INT32_MAX)
    return fail(Code::invalid_argument, "tokens: got n_q " + std::to_string(of.n_q) + ", n_kv " +
                                            std::to_string(of.n_kv) +
                                            ", expected 1 <= n_q <= n_kv <= 2147483647");
  MI_CHECK(check_tensor("q", of.q));
  MI_CHECK(check_tensor("k", of.k));
  MI_CHECK(check_tensor("v", of.v));
  MI_CHECK(check_tensor("o", of.o));
  return {};
}

template Status check_sequence(const Sequence<bf16>&);
template Status check_sequence(const Sequence<f16>&);

}  // namespace mi::kernels::cuda
