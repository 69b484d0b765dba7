// Golden files: whole data sets and scalar attributes of an HDF5 file. Throws, as tests may.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include <hdf5.h>

namespace mi::test {

// Closes an HDF5 id, whatever it is of; a negative id is the failure of the call that made it.
class H5Handle {
 public:
  H5Handle(hid_t id, const std::string& what) : id_(id) {
    if (id < 0) throw std::runtime_error("HDF5: cannot open " + what);
  }
  ~H5Handle() { H5Idec_ref(id_); }
  H5Handle(const H5Handle&) = delete;
  H5Handle& operator=(const H5Handle&) = delete;
  operator hid_t() const { return id_; }

 private:
  hid_t id_;
};

class H5File {
 public:
  explicit H5File(const std::string& path)
      : file_(H5Fopen(path.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT), path) {}

  [[nodiscard]] std::vector<float> floats(const std::string& name) const {
    return read<float>(name, H5T_NATIVE_FLOAT);
  }
  [[nodiscard]] std::vector<int32_t> integers(const std::string& name) const {
    return read<int32_t>(name, H5T_NATIVE_INT32);
  }
  [[nodiscard]] double attribute(const std::string& name) const {
    const H5Handle attribute(H5Aopen(file_, name.c_str(), H5P_DEFAULT), name);
    double value = 0;
    if (H5Aread(attribute, H5T_NATIVE_DOUBLE, &value) < 0) throw std::runtime_error(name);
    return value;
  }

 private:
  template <class T>
  [[nodiscard]] std::vector<T> read(const std::string& name, hid_t type) const {
    const H5Handle set(H5Dopen2(file_, name.c_str(), H5P_DEFAULT), name);
    const H5Handle space(H5Dget_space(set), name);
    std::vector<T> values(static_cast<size_t>(H5Sget_simple_extent_npoints(space)));
    if (H5Dread(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data()) < 0) {
      throw std::runtime_error("HDF5: cannot read " + name);
    }
    return values;
  }
  H5Handle file_;
};

}  // namespace mi::test
