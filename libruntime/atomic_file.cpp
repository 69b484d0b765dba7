#include "libruntime/atomic_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <exception>
#include <string>
#include <system_error>

#include <fmt/format.h>

namespace mi::runtime {
namespace {

namespace fs = std::filesystem;

std::string reason(int error) {
  return std::generic_category().message(error);
}

// Removes the temporary file unless it has been renamed.
struct Temporary {
  fs::path path;
  int fd = -1;
  bool keep = false;

  explicit Temporary(fs::path file) : path(std::move(file)) {}
  Temporary(const Temporary&) = delete;
  Temporary& operator=(const Temporary&) = delete;
  ~Temporary() {
    if (fd >= 0) ::close(fd);
    if (!keep) ::unlink(path.c_str());
  }
};

int write_all(int fd, std::string_view content) {
  while (!content.empty()) {
    const ssize_t written = ::write(fd, content.data(), content.size());
    if (written < 0) {
      if (errno == EINTR) continue;
      return errno;
    }
    content.remove_prefix(static_cast<size_t>(written));
  }
  return 0;
}

// The rename is on disk only once the folder is; some file systems cannot sync folders (EINVAL).
int sync_folder(const fs::path& folder) {
  const int fd = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return errno == EACCES ? 0 : errno;
  const int error = ::fsync(fd) == 0 || errno == EINVAL ? 0 : errno;
  ::close(fd);
  return error;
}

Status write_beside(const fs::path& target, std::string_view content) {
  static std::atomic<unsigned> counter{0};
  const fs::path folder = target.has_parent_path() ? target.parent_path() : fs::path(".");
  const std::string name =
      fmt::format(".{}.tmp.{}.{}", target.filename().string(), ::getpid(), counter++);
  const auto refuse = [&](std::string_view step, int error) -> Status {
    return fail(Code::io, fmt::format("{}: {}: {}", target.string(), step, reason(error)));
  };

  const fs::path path = folder / name;
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (fd < 0) return refuse("cannot create a file in its folder", errno);
  Temporary temporary(path);
  temporary.fd = fd;
  if (const int error = write_all(fd, content); error != 0) return refuse("cannot write", error);
  if (::fsync(fd) != 0) return refuse("cannot sync", errno);
  temporary.fd = -1;
  if (::close(fd) != 0) return refuse("cannot close", errno);
  if (::rename(path.c_str(), target.c_str()) != 0) return refuse("cannot rename", errno);
  temporary.keep = true;
  if (const int error = sync_folder(folder); error != 0) return refuse("cannot sync folder", error);
  return {};
}

}  // namespace

Status write_file_atomically(const fs::path& path, std::string_view content) {
  try {
    std::error_code error;
    fs::path target = path;
    if (fs::is_symlink(path, error)) target = fs::weakly_canonical(path, error);
    if (target.filename().empty())
      return fail(Code::io, fmt::format("'{}': found no file name", path.string()));
    // Renaming over /dev/stdout as root would replace the device.
    if (fs::exists(target, error) && !fs::is_regular_file(target, error))
      return fail(Code::io, fmt::format("{}: exists and is not a regular file", path.string()));
    return write_beside(target, content);
  } catch (const std::exception& exception) {
    return fail(Code::io, exception.what());
  }
}

}  // namespace mi::runtime
