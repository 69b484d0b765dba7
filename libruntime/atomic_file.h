// Outputs appear whole or not at all: a reader never sees half a config, and a failed run leaves
// the earlier file as it was.
#pragma once

#include <filesystem>
#include <string_view>

#include "kernels/status.h"

namespace mi::runtime {

// Writes a temporary file in path's folder, syncs it, renames it over path, syncs the folder. A
// symlink is followed; what exists and is no regular file (a device, a folder) is refused. A path
// that names an open descriptor (/dev/stdout, /dev/stderr, /dev/fd/N, /proc/self/fd/N) is written
// to as it is: others hold it open.
[[nodiscard]] Status write_file_atomically(const std::filesystem::path& path,
                                           std::string_view content);

// What write_file_atomically would refuse before it writes: known before hours of work, not after.
[[nodiscard]] Status check_writable(const std::filesystem::path& path);

// Whether two paths lead to one file, however they are spelt; it need not be there yet.
[[nodiscard]] bool is_same_file(const std::filesystem::path& a, const std::filesystem::path& b);

}  // namespace mi::runtime
