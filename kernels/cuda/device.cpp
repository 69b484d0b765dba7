#include "kernels/cuda/device.h"

#include <cuda_runtime_api.h>

#include "kernels/cuda/error.h"

namespace mi::kernels::cuda {
namespace {

constexpr const char* kMemory = "CUDA memory";
constexpr const char* kStream = "CUDA stream";
constexpr const char* kEvent = "CUDA event";

}  // namespace

Result<DeviceInfo> device_info() {
  constexpr const char* kDevice = "CUDA device";
  DeviceInfo info;
  int device = 0;
  cudaDeviceProp properties;
  MI_CHECK(status_of(cudaGetDevice(&device), kDevice));
  MI_CHECK(status_of(cudaGetDeviceProperties(&properties, device), kDevice));
  MI_CHECK(status_of(cudaDriverGetVersion(&info.driver), kDevice));
  MI_CHECK(status_of(cudaRuntimeGetVersion(&info.runtime), kDevice));
  int khz = 0;
  MI_CHECK(status_of(cudaDeviceGetAttribute(&khz, cudaDevAttrClockRate, device), kDevice));
  info.name = properties.name;
  info.major = properties.major;
  info.minor = properties.minor;
  info.multiprocessors = properties.multiProcessorCount;
  info.clock_mhz = khz / 1000;
  info.memory_bytes = static_cast<int64_t>(properties.totalGlobalMem);
  info.l2_bytes = properties.l2CacheSize;
  return info;
}

void DeviceBuffer::Free::operator()(std::byte* data) const {
  (void)cudaFree(data);
}

Result<DeviceBuffer> DeviceBuffer::make(size_t bytes) {
  DeviceBuffer made;
  void* data = nullptr;
  const cudaError_t error = cudaMalloc(&data, bytes);
  if (error == cudaErrorMemoryAllocation) {
    size_t free = 0, total = 0;
    (void)cudaMemGetInfo(&free, &total);
    return fail(status_of(error, "CUDA memory: " + std::to_string(bytes) + " bytes needed, " +
                                     std::to_string(free) + " of " + std::to_string(total) +
                                     " free"));
  }
  MI_CHECK(status_of(error, kMemory));
  made.data_.reset(static_cast<std::byte*>(data));
  made.size_ = bytes;
  return made;
}

Status DeviceBuffer::upload(const void* from, size_t bytes, size_t offset) {
  MI_CHECK(status_of(cudaMemcpy(data() + offset, from, bytes, cudaMemcpyHostToDevice), kMemory));
  // From pageable memory the copy may still be on its way when cudaMemcpy returns.
  return status_of(cudaStreamSynchronize(nullptr), kMemory);
}

Status upload(std::byte* to, const void* from, size_t bytes, CUstream_st* stream) {
  return status_of(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, stream), kMemory);
}

Status download(void* to, const void* from, size_t bytes) {
  return status_of(cudaMemcpy(to, from, bytes, cudaMemcpyDeviceToHost), kMemory);
}

Status DeviceBuffer::download(void* to, size_t bytes, size_t offset) const {
  return cuda::download(to, data() + offset, bytes);
}

void PinnedBuffer::Free::operator()(std::byte* data) const {
  (void)cudaFreeHost(data);
}

Result<PinnedBuffer> PinnedBuffer::make(size_t bytes) {
  PinnedBuffer made;
  void* data = nullptr;
  MI_CHECK(status_of(cudaMallocHost(&data, bytes),
                     "page-locked memory: " + std::to_string(bytes) + " bytes"));
  made.data_.reset(static_cast<std::byte*>(data));
  return made;
}

void DeviceEvent::Destroy::operator()(CUevent_st* event) const {
  (void)cudaEventDestroy(event);
}

Result<DeviceEvent> DeviceEvent::make() {
  DeviceEvent made;
  cudaEvent_t event = nullptr;
  MI_CHECK(status_of(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), kEvent));
  made.event_.reset(event);
  return made;
}

Status DeviceEvent::record(CUstream_st* stream) const {
  return status_of(cudaEventRecord(event_.get(), stream), kEvent);
}
Status DeviceEvent::hold(CUstream_st* stream) const {
  return status_of(cudaStreamWaitEvent(stream, event_.get(), 0), kEvent);
}
Status DeviceEvent::wait() const {
  return status_of(cudaEventSynchronize(event_.get()), kEvent);
}

void DeviceStream::Destroy::operator()(CUstream_st* stream) const {
  (void)cudaStreamDestroy(stream);
}
void DeviceStream::Destroy::operator()(CUevent_st* event) const {
  (void)cudaEventDestroy(event);
}

Result<DeviceStream> DeviceStream::make() {
  DeviceStream made;
  cudaStream_t stream = nullptr;
  MI_CHECK(status_of(cudaStreamCreate(&stream), kStream));
  made.stream_.reset(stream);
  for (auto* event : {&made.begin_, &made.end_}) {
    cudaEvent_t created = nullptr;
    MI_CHECK(status_of(cudaEventCreate(&created), kStream));
    event->reset(created);
  }
  return made;
}

Status DeviceStream::wait() const {
  return status_of(cudaStreamSynchronize(stream_.get()), kStream);
}

Status DeviceStream::run(const Work& work) {
  MI_CHECK(work(stream_.get()));
  return wait();
}

Status DeviceStream::run_as_graph(const Work& work) {
  struct DestroyGraph {
    void operator()(CUgraph_st* graph) const { (void)cudaGraphDestroy(graph); }
    void operator()(CUgraphExec_st* graph) const { (void)cudaGraphExecDestroy(graph); }
  };
  constexpr const char* kGraph = "CUDA graph";
  MI_CHECK(
      status_of(cudaStreamBeginCapture(stream_.get(), cudaStreamCaptureModeThreadLocal), kGraph));
  const Status recorded = work(stream_.get());
  cudaGraph_t graph = nullptr;
  const cudaError_t ended = cudaStreamEndCapture(stream_.get(), &graph);
  const std::unique_ptr<CUgraph_st, DestroyGraph> owned(graph);
  MI_CHECK(recorded);
  MI_CHECK(status_of(ended, kGraph));
  cudaGraphExec_t ready = nullptr;
  MI_CHECK(status_of(cudaGraphInstantiate(&ready, graph, 0), kGraph));
  const std::unique_ptr<CUgraphExec_st, DestroyGraph> owned_ready(ready);
  MI_CHECK(status_of(cudaGraphLaunch(ready, stream_.get()), kGraph));
  return status_of(cudaStreamSynchronize(stream_.get()), kGraph);
}

Result<double> DeviceStream::time(const Work& work, int times) {
  MI_CHECK(status_of(cudaEventRecord(begin_.get(), stream_.get()), kStream));
  for (int i = 0; i < times; ++i) MI_CHECK(work(stream_.get()));
  MI_CHECK(status_of(cudaEventRecord(end_.get(), stream_.get()), kStream));
  MI_CHECK(status_of(cudaEventSynchronize(end_.get()), kStream));
  float ms = 0;
  MI_CHECK(status_of(cudaEventElapsedTime(&ms, begin_.get(), end_.get()), kStream));
  return static_cast<double>(ms);
}

}  // namespace mi::kernels::cuda
