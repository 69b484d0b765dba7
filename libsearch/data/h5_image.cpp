#include "libsearch/data/h5_image.h"

#include <hdf5.h>

#include <algorithm>
#include <memory>
#include <stdexcept>

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace mi::search {
namespace {

static_assert(sizeof(hid_t) == sizeof(int64_t));

// HDF5's own name of a file that is never on disk.
constexpr const char* kNoFile = "memory";
constexpr size_t kGrowth = size_t{1} << 20;
// Longest text that is read: options and candidates are a few KB.
constexpr uint64_t kMaxText = uint64_t{16} << 20;

// An HDF5 id of any kind; a negative one is the failure of the call that made it.
class Handle {
 public:
  Handle(hid_t id, std::string_view what) : id_(id) {
    if (id < 0) throw std::runtime_error(fmt::format("{} cannot be opened or made", what));
  }
  ~Handle() { H5Idec_ref(id_); }
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;
  operator hid_t() const { return id_; }

 private:
  hid_t id_;
};

void check(herr_t result, std::string_view what) {
  if (result < 0) throw std::runtime_error(fmt::format("{} failed", what));
}

// Errors are exceptions here: HDF5 prints nothing.
void silence() {
  H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
}

Handle utf8_type(size_t size) {
  const hid_t type = H5Tcopy(H5T_C_S1);
  H5Tset_size(type, std::max<size_t>(1, size));
  H5Tset_cset(type, H5T_CSET_UTF8);
  H5Tset_strpad(type, H5T_STR_NULLPAD);
  return {type, "a text type"};
}

// The size of a text type, 0 of one that is as long as it is (h5py's own).
size_t text_size(hid_t type, std::string_view what) {
  if (H5Tget_class(type) != H5T_STRING)
    throw std::runtime_error(fmt::format("{}: found no text", what));
  if (H5Tis_variable_str(type) > 0) return 0;
  const size_t size = H5Tget_size(type);
  if (size > kMaxText)
    throw std::runtime_error(
        fmt::format("{}: found {} bytes of text, expected {} at most", what, size, kMaxText));
  return size;
}

// Padding at the end is not part of a text.
std::string unpadded(std::string text) {
  text.resize(text.find_last_not_of('\0') + 1);
  return text;
}

void check_scalar(hid_t space, std::string_view what) {
  if (H5Sget_simple_extent_npoints(space) != 1)
    throw std::runtime_error(fmt::format("{}: found more or less than one value", what));
}

}  // namespace

H5Writer::H5Writer() : file_(-1) {
  silence();
  const Handle access(H5Pcreate(H5P_FILE_ACCESS), "access");
  check(H5Pset_fapl_core(access, kGrowth, false), "a file in memory");
  const Handle creation(H5Pcreate(H5P_FILE_CREATE), "creation");
  // No times: the same content has the same bytes.
  check(H5Pset_obj_track_times(creation, false), "a file without times");
  file_ = H5Fcreate(kNoFile, H5F_ACC_TRUNC, creation, access);
  if (file_ < 0) throw std::runtime_error("a file in memory cannot be made");
}
H5Writer::~H5Writer() {
  H5Fclose(file_);
}

void H5Writer::attribute(const std::string& name, int64_t value) {
  const Handle space(H5Screate(H5S_SCALAR), name);
  const Handle made(H5Acreate2(file_, name.c_str(), H5T_STD_I64LE, space, H5P_DEFAULT, H5P_DEFAULT),
                    name);
  check(H5Awrite(made, H5T_NATIVE_INT64, &value), name);
}

void H5Writer::attribute(const std::string& name, std::string_view text) {
  const Handle space(H5Screate(H5S_SCALAR), name);
  const Handle type = utf8_type(text.size());
  const Handle made(H5Acreate2(file_, name.c_str(), type, space, H5P_DEFAULT, H5P_DEFAULT), name);
  check(H5Awrite(made, type, std::string(text).c_str()), name);
}

void H5Writer::group(const std::string& path) {
  const Handle creation(H5Pcreate(H5P_GROUP_CREATE), path);
  check(H5Pset_obj_track_times(creation, false), path);
  const Handle made(H5Gcreate2(file_, path.c_str(), H5P_DEFAULT, creation, H5P_DEFAULT), path);
}

void H5Writer::text(const std::string& path, std::string_view text) {
  const Handle space(H5Screate(H5S_SCALAR), path);
  const Handle type = utf8_type(text.size());
  const Handle creation(H5Pcreate(H5P_DATASET_CREATE), path);
  check(H5Pset_obj_track_times(creation, false), path);
  const Handle set(H5Dcreate2(file_, path.c_str(), type, space, H5P_DEFAULT, creation, H5P_DEFAULT),
                   path);
  check(H5Dwrite(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, std::string(text).c_str()), path);
}

void H5Writer::floats(const std::string& path, std::span<const uint64_t> extent,
                      std::span<const uint64_t> chunk, std::span<const float> values) {
  const std::vector<hsize_t> size(extent.begin(), extent.end());
  const std::vector<hsize_t> part(chunk.begin(), chunk.end());
  const auto rank = static_cast<int>(size.size());
  const Handle space(H5Screate_simple(rank, size.data(), nullptr), path);
  const Handle creation(H5Pcreate(H5P_DATASET_CREATE), path);
  check(H5Pset_obj_track_times(creation, false), path);
  check(H5Pset_chunk(creation, rank, part.data()), path);
  check(H5Pset_shuffle(creation), path);
  check(H5Pset_deflate(creation, 6), path);
  const Handle set(
      H5Dcreate2(file_, path.c_str(), H5T_IEEE_F32LE, space, H5P_DEFAULT, creation, H5P_DEFAULT),
      path);
  if (!values.empty())
    check(H5Dwrite(set, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data()), path);
}

std::string H5Writer::bytes() {
  check(H5Fflush(file_, H5F_SCOPE_GLOBAL), "a flush");
  const ssize_t size = H5Fget_file_image(file_, nullptr, 0);
  if (size < 0) throw std::runtime_error("the file's bytes cannot be had");
  std::string image(static_cast<size_t>(size), '\0');
  if (H5Fget_file_image(file_, image.data(), image.size()) != size)
    throw std::runtime_error("the file's bytes cannot be had");
  return image;
}

H5Reader::H5Reader(std::string_view bytes) : file_(-1) {
  silence();
  const Handle access(H5Pcreate(H5P_FILE_ACCESS), "access");
  check(H5Pset_fapl_core(access, kGrowth, false), "a file in memory");
  // Copied by HDF5; the parameter is not const for callers that hand memory over.
  check(H5Pset_file_image(access, const_cast<char*>(bytes.data()), bytes.size()), "its bytes");
  file_ = H5Fopen(kNoFile, H5F_ACC_RDONLY, access);
  if (file_ < 0) throw std::runtime_error("found no HDF5 file");
}
H5Reader::H5Reader(OnDisk file) : file_(-1) {
  silence();
  file_ = H5Fopen(file.path.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT);
  if (file_ < 0) throw std::runtime_error("found no HDF5 file");
}
H5Reader::~H5Reader() {
  H5Fclose(file_);
}

int64_t H5Reader::integer_attribute(const std::string& name) const {
  const std::string what = "attribute " + name;
  const Handle attribute(H5Aopen(file_, name.c_str(), H5P_DEFAULT), what);
  const Handle type(H5Aget_type(attribute), what);
  if (H5Tget_class(type) != H5T_INTEGER) throw std::runtime_error(what + ": found no integer");
  check_scalar(Handle(H5Aget_space(attribute), what), what);
  int64_t value = 0;
  check(H5Aread(attribute, H5T_NATIVE_INT64, &value), what);
  return value;
}

double H5Reader::number_attribute(const std::string& name) const {
  const std::string what = "attribute " + name;
  const Handle attribute(H5Aopen(file_, name.c_str(), H5P_DEFAULT), what);
  const Handle type(H5Aget_type(attribute), what);
  const H5T_class_t kind = H5Tget_class(type);
  if (kind != H5T_INTEGER && kind != H5T_FLOAT)
    throw std::runtime_error(what + ": found no number");
  check_scalar(Handle(H5Aget_space(attribute), what), what);
  double value = 0;
  check(H5Aread(attribute, H5T_NATIVE_DOUBLE, &value), what);
  return value;
}

bool H5Reader::has_attribute(const std::string& name) const {
  return H5Aexists(file_, name.c_str()) > 0;
}

std::string H5Reader::text_attribute(const std::string& name) const {
  const std::string what = "attribute " + name;
  const Handle attribute(H5Aopen(file_, name.c_str(), H5P_DEFAULT), what);
  const Handle type(H5Aget_type(attribute), what);
  check_scalar(Handle(H5Aget_space(attribute), what), what);
  const size_t size = text_size(type, what);
  if (size == 0) {
    char* own = nullptr;
    check(H5Aread(attribute, type, static_cast<void*>(&own)), what);
    const std::unique_ptr<char, decltype(&H5free_memory)> owner(own, &H5free_memory);
    return own == nullptr ? "" : std::string(own);
  }
  std::string text(size, '\0');
  check(H5Aread(attribute, type, text.data()), what);
  return unpadded(std::move(text));
}

bool H5Reader::has(const std::string& path) const {
  return H5Lexists(file_, path.c_str(), H5P_DEFAULT) > 0;
}

std::string H5Reader::text(const std::string& path) const {
  const Handle set(H5Dopen2(file_, path.c_str(), H5P_DEFAULT), path);
  const Handle type(H5Dget_type(set), path);
  check_scalar(Handle(H5Dget_space(set), path), path);
  const size_t size = text_size(type, path);
  if (size == 0) throw std::runtime_error(path + ": found no text of fixed length");
  std::string text(size, '\0');
  check(H5Dread(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, text.data()), path);
  return unpadded(std::move(text));
}

std::vector<uint64_t> H5Reader::extent(const std::string& path) const {
  const Handle set(H5Dopen2(file_, path.c_str(), H5P_DEFAULT), path);
  const Handle space(H5Dget_space(set), path);
  std::vector<hsize_t> found(static_cast<size_t>(std::max(0, H5Sget_simple_extent_ndims(space))));
  H5Sget_simple_extent_dims(space, found.data(), nullptr);
  return {found.begin(), found.end()};
}

bool H5Reader::is_bf16(const std::string& path) const {
  const Handle set(H5Dopen2(file_, path.c_str(), H5P_DEFAULT), path);
  const Handle type(H5Dget_type(set), path);
  return H5Tget_class(type) == H5T_INTEGER && H5Tget_size(type) == 2;
}

namespace {

void check_extent(const std::vector<uint64_t>& found, std::span<const uint64_t> expected,
                  const std::string& path) {
  if (!std::equal(found.begin(), found.end(), expected.begin(), expected.end()))
    throw std::runtime_error(fmt::format("{}: found [{}], expected [{}]", path,
                                         fmt::join(found, ", "), fmt::join(expected, ", ")));
}

size_t count_of(std::span<const uint64_t> extent) {
  size_t count = 1;
  for (const uint64_t size : extent) count *= size;
  return count;
}

}  // namespace

std::vector<uint16_t> H5Reader::halves(const std::string& path,
                                       std::span<const uint64_t> wanted) const {
  check_extent(extent(path), wanted, path);
  const Handle set(H5Dopen2(file_, path.c_str(), H5P_DEFAULT), path);
  std::vector<uint16_t> values(count_of(wanted));
  if (!values.empty())
    check(H5Dread(set, H5T_NATIVE_UINT16, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data()), path);
  return values;
}

std::vector<float> H5Reader::floats(const std::string& path,
                                    std::span<const uint64_t> wanted) const {
  check_extent(extent(path), wanted, path);
  const Handle set(H5Dopen2(file_, path.c_str(), H5P_DEFAULT), path);
  const Handle type(H5Dget_type(set), path);
  if (H5Tget_class(type) != H5T_FLOAT) throw std::runtime_error(path + ": found no floats");
  std::vector<float> values(count_of(wanted));
  if (!values.empty())
    check(H5Dread(set, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data()), path);
  return values;
}

}  // namespace mi::search
