#include "libruntime/atomic_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <exception>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <utility>

#include <fmt/format.h>

namespace mi::runtime {
namespace {

namespace fs = std::filesystem;

std::string reason(int error) {
  return std::generic_category().message(error);
}

// A file in the target's folder, to be renamed over it; removed unless that happened.
struct Temporary {
  fs::path folder;
  fs::path path;
  int fd = -1;
  bool keep = false;

  explicit Temporary(const fs::path& target)
      : folder(target.has_parent_path() ? target.parent_path() : fs::path(".")) {
    static std::atomic<unsigned> counter{0};
    path = folder / fmt::format(".{}.tmp.{}.{}", target.filename().string(), ::getpid(), counter++);
  }
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

Failure refuse(const fs::path& target, std::string_view step, int error) {
  return fail(Code::io, fmt::format("{}: {}: {}", target.string(), step, reason(error)));
}

Result<std::unique_ptr<Temporary>> create_beside(const fs::path& target) {
  auto temporary = std::make_unique<Temporary>(target);
  temporary->fd = ::open(temporary->path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (temporary->fd >= 0) return temporary;
  temporary->keep = true;  // nothing to remove
  return refuse(target, "cannot create a file in its folder", errno);
}

Status write_beside(const fs::path& target, std::string_view content) {
  MI_TRY(const auto temporary, create_beside(target));
  if (const int error = write_all(temporary->fd, content); error != 0)
    return refuse(target, "cannot write", error);
  if (::fsync(temporary->fd) != 0) return refuse(target, "cannot sync", errno);
  if (::close(std::exchange(temporary->fd, -1)) != 0) return refuse(target, "cannot close", errno);
  if (::rename(temporary->path.c_str(), target.c_str()) != 0)
    return refuse(target, "cannot rename", errno);
  temporary->keep = true;
  if (const int error = sync_folder(temporary->folder); error != 0)
    return refuse(target, "cannot sync folder", error);
  return {};
}

// The open descriptor that a path names, if it names one.
std::optional<int> descriptor_of(const fs::path& path) {
  const std::string name = path.lexically_normal().string();
  if (name == "/dev/stdout") return STDOUT_FILENO;
  if (name == "/dev/stderr") return STDERR_FILENO;
  for (const std::string_view folder : {"/dev/fd/", "/proc/self/fd/"}) {
    if (!name.starts_with(folder)) continue;
    int fd = -1;
    const char* end = name.data() + name.size();
    if (std::from_chars(name.data() + folder.size(), end, fd).ptr == end && fd >= 0) return fd;
  }
  return std::nullopt;
}

struct Target {
  fs::path path;
  std::optional<int> descriptor;  // instead
};

// Where a path leads: symlinks are followed, also those whose target is not there yet.
Result<Target> target_of(const fs::path& path) {
  constexpr int kMostLinks = 40;  // as the kernel's
  std::error_code error;
  fs::path target = path;
  for (int links = 0;; ++links) {
    // What it leads to would lose its name to a new file, which whoever opened it never sees.
    if (const auto fd = descriptor_of(target)) return Target{target, fd};
    if (!fs::is_symlink(target, error)) break;
    if (links == kMostLinks) return refuse(path, "cannot follow its links", ELOOP);
    const fs::path next = fs::read_symlink(target, error);
    target = next.is_absolute() ? next : target.parent_path() / next;
  }
  if (target.filename().empty())
    return fail(Code::io, fmt::format("'{}': found no file name", path.string()));
  // Renaming over /dev/null as root would replace the device.
  if (fs::exists(target, error) && !fs::is_regular_file(target, error))
    return fail(Code::io, fmt::format("{}: exists and is not a regular file", path.string()));
  return Target{target, std::nullopt};
}

}  // namespace

Status write_file_atomically(const fs::path& path, std::string_view content) {
  try {
    MI_TRY(const Target target, target_of(path));
    if (!target.descriptor) return write_beside(target.path, content);
    const int error = write_all(*target.descriptor, content);
    return error == 0 ? Status{} : refuse(path, "cannot write", error);
  } catch (const std::exception& exception) {
    return fail(Code::io, exception.what());
  }
}

Status check_writable(const fs::path& path) {
  try {
    MI_TRY(const Target target, target_of(path));
    if (!target.descriptor) {
      MI_TRY(const auto temporary, create_beside(target.path));
      return {};
    }
    const int flags = ::fcntl(*target.descriptor, F_GETFL);
    if (flags < 0) return refuse(path, "cannot write", errno);
    return (flags & O_ACCMODE) == O_RDONLY ? refuse(path, "cannot write", EBADF) : Status{};
  } catch (const std::exception& exception) {
    return fail(Code::io, exception.what());
  }
}

bool is_same_file(const fs::path& a, const fs::path& b) {
  try {
    std::error_code error;
    if (fs::equivalent(a, b, error)) return true;
    const auto target_a = target_of(a);
    const auto target_b = target_of(b);
    // What cannot be written is told by check_writable.
    if (!target_a || !target_b) return false;
    if (target_a->descriptor || target_b->descriptor)
      return target_a->descriptor == target_b->descriptor;
    return fs::weakly_canonical(fs::absolute(target_a->path)) ==
           fs::weakly_canonical(fs::absolute(target_b->path));
  } catch (const std::exception&) {  // a path that cannot be followed leads nowhere
    return false;
  }
}

}  // namespace mi::runtime
