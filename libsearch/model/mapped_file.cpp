#include "libsearch/model/mapped_file.h"

#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fmt/format.h>

namespace mi::search {
namespace {

struct Descriptor {
  int fd = -1;
  ~Descriptor() {
    if (fd >= 0) ::close(fd);
  }
};

Failure io_error(const std::filesystem::path& path, int error) {
  return fail(Code::io, fmt::format("{}: {}", path.string(), std::strerror(error)));
}

}  // namespace

Result<std::shared_ptr<const MappedFile>> MappedFile::open(const std::filesystem::path& path) {
  // O_NONBLOCK: opening a FIFO by mistake must be refused below, not wait for a writer.
  const Descriptor file{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
  if (file.fd < 0) return io_error(path, errno);
  struct stat info {};
  if (::fstat(file.fd, &info) != 0) return io_error(path, errno);
  if (!S_ISREG(info.st_mode)) {
    return fail(Code::io, fmt::format("{}: not a regular file", path.string()));
  }
  std::shared_ptr<MappedFile> mapped(new MappedFile);
  const auto size = static_cast<size_t>(info.st_size);
  if (size > 0) {
    void* address = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.fd, 0);
    if (address == MAP_FAILED) return io_error(path, errno);
    mapped->bytes_ = {static_cast<const uint8_t*>(address), size};
  }
  return std::shared_ptr<const MappedFile>(std::move(mapped));
}

void MappedFile::will_need(Bytes part) const {
  // From the page on that it begins in. A hint: what fails is fetched when it is read.
  const auto page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  const size_t begin = static_cast<size_t>(part.data() - bytes_.data()) / page * page;
  const size_t end = static_cast<size_t>(part.data() - bytes_.data()) + part.size();
  ::madvise(const_cast<uint8_t*>(bytes_.data()) + begin, end - begin, MADV_WILLNEED);
}

void MappedFile::release(Bytes part) const {
  // Whole pages within it only: others hold what stands beside.
  const auto page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  const auto offset = static_cast<size_t>(part.data() - bytes_.data());
  const size_t begin = (offset + page - 1) / page * page;
  const size_t end = (offset + part.size()) / page * page;
  if (begin < end)
    ::madvise(const_cast<uint8_t*>(bytes_.data()) + begin, end - begin, MADV_DONTNEED);
}

MappedFile::~MappedFile() {
  if (!bytes_.empty()) ::munmap(const_cast<uint8_t*>(bytes_.data()), bytes_.size());
}

Result<std::string> read_text_file(const std::filesystem::path& path) {
  constexpr size_t kMostBytes = size_t{256} << 20;  // the largest tokenizer.json has 33 MiB
  MI_TRY(const auto file, MappedFile::open(path));
  if (file->bytes().size() > kMostBytes)
    return fail(Code::io, fmt::format("{}: found {} bytes, expected at most {}", path.string(),
                                      file->bytes().size(), kMostBytes));
  return std::string(file->bytes().begin(), file->bytes().end());
}

}  // namespace mi::search
