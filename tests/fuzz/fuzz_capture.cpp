// Any bytes as a capture: one error that names the file, or layers that can be read. HDF5 itself
// reads the file from disk.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include <unistd.h>

#include "libsearch/model/capture.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace mi::search;  // NOLINT: one file, one target
  const std::filesystem::path path =
      std::filesystem::temp_directory_path() / ("fuzz_capture." + std::to_string(getpid()));
  std::ofstream(path, std::ios::binary)
      .write(reinterpret_cast<const char*>(data), static_cast<std::streamsize>(size));
  const auto captured = open_captures({&path, 1});
  if (!captured && captured.error().what.find("fuzz_capture") == std::string::npos) std::abort();
  if (captured) {
    const auto read = captured->model->forward(
        captured->samples[0].ids,
        [](const LayerQkv&, mi::TensorView<float, 3>) { return mi::Status{}; }, {});
    if (!read && read.error().what.find("fuzz_capture") == std::string::npos) std::abort();
  }
  std::filesystem::remove(path);
  return 0;
}
