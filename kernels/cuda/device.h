// What a search, tests and measurements need of a device beside the kernels: its name, memory that
// is freed, events, a stream that waits, is recorded as a graph and timed. The launches themselves
// need none of it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "kernels/status.h"

struct CUevent_st;
struct CUstream_st;

namespace mi::kernels::cuda {

struct DeviceInfo {
  std::string name;
  int major = 0, minor = 0;  // compute capability
  int multiprocessors = 0;
  int clock_mhz = 0;  // the highest
  int64_t memory_bytes = 0;
  int64_t l2_bytes = 0;
  int driver = 0, runtime = 0;  // CUDA version, 1000 * major + 10 * minor
};
// The current device; fails where there is none, or no driver, by name.
[[nodiscard]] Result<DeviceInfo> device_info();

// Puts a copy to the device's memory on the stream; `from` must stay as it is until the stream gets
// there, and is best in a PinnedBuffer: from other memory the host waits.
[[nodiscard]] Status upload(std::byte* to, const void* from, size_t bytes, CUstream_st* stream);
// From the device's memory; as DeviceBuffer's.
[[nodiscard]] Status download(void* to, const void* from, size_t bytes);

class DeviceBuffer {
 public:
  // Errors: out_of_memory, with what is free; device.
  [[nodiscard]] static Result<DeviceBuffer> make(size_t bytes);
  [[nodiscard]] std::byte* data() const { return data_.get(); }
  [[nodiscard]] size_t size() const { return size_; }
  // Both return when the copy is done, and come after what any DeviceStream was given before.
  [[nodiscard]] Status upload(const void* from, size_t bytes, size_t offset = 0);
  [[nodiscard]] Status download(void* to, size_t bytes, size_t offset = 0) const;

 private:
  struct Free {
    void operator()(std::byte* data) const;
  };
  std::unique_ptr<std::byte, Free> data_;
  size_t size_ = 0;
};

// Memory of the host that copies read while kernels run.
class PinnedBuffer {
 public:
  // Errors: out_of_memory, device.
  [[nodiscard]] static Result<PinnedBuffer> make(size_t bytes);
  [[nodiscard]] std::byte* data() const { return data_.get(); }

 private:
  struct Free {
    void operator()(std::byte* data) const;
  };
  std::unique_ptr<std::byte, Free> data_;
};

// A place in what a stream was given. One that was never recorded is past already.
class DeviceEvent {
 public:
  [[nodiscard]] static Result<DeviceEvent> make();
  [[nodiscard]] Status record(CUstream_st* stream) const;
  [[nodiscard]] Status hold(CUstream_st* stream) const;  // what it is given next, until then
  [[nodiscard]] Status wait() const;

 private:
  struct Destroy {
    void operator()(CUevent_st* event) const;
  };
  std::unique_ptr<CUevent_st, Destroy> event_;
};

class DeviceStream {
 public:
  using Work = std::function<Status(CUstream_st*)>;  // puts work on the stream

  [[nodiscard]] CUstream_st* get() const { return stream_.get(); }
  // Until all that it was given is done: errors that a kernel makes on the device show here.
  [[nodiscard]] Status wait() const;

  [[nodiscard]] static Result<DeviceStream> make();
  // Runs it to its end, as wait().
  [[nodiscard]] Status run(const Work& work);
  // The same, recorded as a CUDA graph and run as one.
  [[nodiscard]] Status run_as_graph(const Work& work);
  // Milliseconds between two events, one on either side of `times` times the work.
  [[nodiscard]] Result<double> time(const Work& work, int times);

 private:
  struct Destroy {
    void operator()(CUstream_st* stream) const;
    void operator()(CUevent_st* event) const;
  };
  std::unique_ptr<CUstream_st, Destroy> stream_;
  std::unique_ptr<CUevent_st, Destroy> begin_, end_;
};

}  // namespace mi::kernels::cuda
