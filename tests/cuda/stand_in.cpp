// Stands in for a device under on_device.h: memory of its own, which host pointers do not lead to,
// and the emulator to run the launches. So what the device's checks do on the host is tested where
// there is no device.
#include <sys/mman.h>

#include <algorithm>
#include <cstddef>
#include <map>
#include <memory>
#include <utility>

#include "kernels/cuda/device.h"
#include "kernels/cuda/gemm.h"
#include "kernels/cuda/launch.h"
#include "tests/cuda/emulated_launch.h"

namespace mi::kernels::cuda {
namespace {

std::map<std::byte*, size_t> g_allocated;

template <class T, int kHeadDim, class... Call>
Status emulate(const Call&... call) {
  test::cuda::GlobalMemory memory;
  for (const auto& [data, bytes] : g_allocated) memory.add(data, bytes, true);
  int64_t products = 0;
  return test::cuda::EmulatedLaunch<T, kHeadDim>(memory, products)(call...);
}
// Of kernels that are the same for every head dimension.
template <class T, class... Call>
Status emulate_any(const Call&... call) {
  return emulate<T, kHeadDims[0]>(call...);
}

// `run` with the head dimension as a constant.
template <size_t... kIndex, class Run>
Status with_head_dim(int head_dim, std::index_sequence<kIndex...> /*all*/, const Run& run) {
  Status status = fail(Code::unsupported, "head_dim");
  ((kHeadDims[kIndex] == head_dim
        ? void(status = run(std::integral_constant<int, kHeadDims[kIndex]>()))
        : void()),
   ...);
  return status;
}
constexpr auto kAll = std::make_index_sequence<kHeadDims.size()>();

}  // namespace

Result<DeviceInfo> device_info() {
  return DeviceInfo{};
}

Result<DeviceBuffer> DeviceBuffer::make(size_t bytes) {
  void* const data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (data == MAP_FAILED) return fail(Code::out_of_memory, "mmap");
  DeviceBuffer made;
  made.data_.reset(static_cast<std::byte*>(data));
  made.size_ = bytes;
  g_allocated[made.data()] = bytes;
  return made;
}
void DeviceBuffer::Free::operator()(std::byte* data) const {
  munmap(data, g_allocated[data]);
  g_allocated.erase(data);
}
Status DeviceBuffer::upload(const void* from, size_t bytes, size_t offset) {
  // Not memcpy: a part of no bytes has no address.
  std::copy_n(static_cast<const std::byte*>(from), bytes, data() + offset);
  return {};
}
Status upload(std::byte* to, const void* from, size_t bytes, CUstream_st* /*stream*/) {
  std::copy_n(static_cast<const std::byte*>(from), bytes, to);
  return {};
}
Status download(void* to, const void* from, size_t bytes) {
  std::copy_n(static_cast<const std::byte*>(from), bytes, static_cast<std::byte*>(to));
  return {};
}
Status DeviceBuffer::download(void* to, size_t bytes, size_t offset) const {
  return cuda::download(to, data() + offset, bytes);
}

// There is one stream, and what it is given is done at once.
void PinnedBuffer::Free::operator()(std::byte* data) const {
  delete[] data;
}
Result<PinnedBuffer> PinnedBuffer::make(size_t bytes) {
  PinnedBuffer made;
  made.data_.reset(new std::byte[bytes]);
  return made;
}
void DeviceEvent::Destroy::operator()(CUevent_st* /*event*/) const {}
Result<DeviceEvent> DeviceEvent::make() {
  return DeviceEvent();
}
Status DeviceEvent::record(CUstream_st* /*stream*/) const {
  return {};
}
Status DeviceEvent::hold(CUstream_st* /*stream*/) const {
  return {};
}
Status DeviceEvent::wait() const {
  return {};
}
Status DeviceStream::wait() const {
  return {};
}
Result<DeviceStream> DeviceStream::make() {
  return DeviceStream();
}
Status DeviceStream::run(const Work& work) {
  return work(nullptr);
}
Status DeviceStream::run_as_graph(const Work& work) {
  return work(nullptr);
}
void DeviceStream::Destroy::operator()(CUstream_st* /*stream*/) const {}
void DeviceStream::Destroy::operator()(CUevent_st* /*event*/) const {}

// Products in f32, in the order of the columns.
struct Gemm::Library {};
Gemm::Gemm(std::unique_ptr<Library> library) : library_(std::move(library)) {}
Gemm::Gemm(Gemm&&) noexcept = default;
Gemm& Gemm::operator=(Gemm&&) noexcept = default;
Gemm::~Gemm() = default;
Result<Gemm> Gemm::make() {
  return Gemm(std::make_unique<Library>());
}
template <class Out>
Status Gemm::launch(const GemmCall<Out>& call, CUstream_st* /*stream*/) const {
  for (int64_t r = 0; r < call.rows; ++r)
    for (int64_t c = 0; c < call.out; ++c) {
      float sum = 0;
      for (int64_t i = 0; i < call.in; ++i)
        sum += to_float(call.x[r * call.in + i]) * to_float(call.w[c * call.in + i]);
      call.y[r * call.out + c] = narrowed<Out>(sum);
    }
  return {};
}
template Status Gemm::launch(const GemmCall<float>&, CUstream_st*) const;

template <class T>
Status launch_attend(const AttendCall<T>& call, int64_t items, int head_dim, CUstream_st*) {
  return with_head_dim(head_dim, kAll, [&](auto dim) { return emulate<T, dim()>(call, items); });
}
template <class T>
Status launch_stripes(const EstimateCall<T>& call, int head_dim, CUstream_st*) {
  return with_head_dim(head_dim, kAll, [&](auto dim) { return emulate<T, dim()>(call); });
}
template <class T>
Status launch_vertical(const VerticalCall<T>& call, int head_dim, CUstream_st*) {
  return with_head_dim(head_dim, kAll, [&](auto dim) { return emulate<T, dim()>(call); });
}
template <class T>
Status launch_pooled(const PooledCall<T>& call, CUstream_st*) {
  return emulate_any<T>(call);
}
template <class T>
Status launch_antidiagonal(const AntidiagonalCall<T>& call, int head_dim, CUstream_st*) {
  return with_head_dim(head_dim, kAll, [&](auto dim) { return emulate<T, dim()>(call); });
}
Status launch_select(const SelectCall& call, bool shares_cap, CUstream_st*) {
  return emulate_any<bf16>(call, shares_cap);
}
Status launch_spend(const SpendCall& call, CUstream_st*) {
  return emulate_any<bf16>(call);
}
Status launch_report(const ReportCall& call, CUstream_st*) {
  return emulate_any<bf16>(call);
}
Status launch_put(const PutCall& call, CUstream_st*) {
  return emulate_any<bf16>(call);
}
Status launch_index(const IndexCall& call, CUstream_st*) {
  return emulate_any<bf16>(call);
}
template <class T>
Status launch_norm(const NormCall<T>& call, CUstream_st*) {
  return emulate_any<bf16>(call);
}
Status launch_add(const AddCall& call, CUstream_st*) {
  return emulate_any<bf16>(call);
}
Status launch_rotate(const RotateCall& call, CUstream_st*) {
  return emulate_any<bf16>(call);
}
Status launch_activate(const ActivateCall& call, CUstream_st*) {
  return emulate_any<bf16>(call);
}

template Status launch_norm(const NormCall<bf16>&, CUstream_st*);
template Status launch_norm(const NormCall<float>&, CUstream_st*);
template Status launch_attend(const AttendCall<bf16>&, int64_t, int, CUstream_st*);
template Status launch_attend(const AttendCall<f16>&, int64_t, int, CUstream_st*);
template Status launch_stripes(const EstimateCall<bf16>&, int, CUstream_st*);
template Status launch_stripes(const EstimateCall<f16>&, int, CUstream_st*);
template Status launch_vertical(const VerticalCall<bf16>&, int, CUstream_st*);
template Status launch_vertical(const VerticalCall<f16>&, int, CUstream_st*);
template Status launch_pooled(const PooledCall<bf16>&, CUstream_st*);
template Status launch_pooled(const PooledCall<f16>&, CUstream_st*);
template Status launch_antidiagonal(const AntidiagonalCall<bf16>&, int, CUstream_st*);
template Status launch_antidiagonal(const AntidiagonalCall<f16>&, int, CUstream_st*);

}  // namespace mi::kernels::cuda
