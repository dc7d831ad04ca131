// HDF5's C library as core/base/hdf5*.cpp use it, the only files that include this one: identifiers that
// close themselves, its settings, its lock, its error texts and types.
#pragma once

#include <hdf5.h>

#include <cstdint>
#include <mutex>
#include <string>
#include <utility>

namespace fwl {

// A closed-by-itself HDF5 identifier; the closer is a template argument, so the object is one hid_t.
template <herr_t (*Close)(hid_t)>
class Handle {
 public:
  Handle() = default;
  explicit Handle(hid_t id) : id_(id) {}
  ~Handle() { reset(); }
  Handle(Handle&& other) noexcept : id_(std::exchange(other.id_, -1)) {}
  Handle& operator=(Handle&& other) noexcept {
    if (this != &other) {
      reset();
      id_ = std::exchange(other.id_, -1);
    }
    return *this;
  }
  hid_t get() const { return id_; }
  explicit operator bool() const { return id_ >= 0; }
  void reset() {
    if (id_ >= 0) Close(std::exchange(id_, -1));
  }
  // For who closes it and looks whether that succeeds.
  hid_t take() { return std::exchange(id_, -1); }

 private:
  hid_t id_ = -1;
};
using FileHandle = Handle<H5Fclose>;
using DatasetHandle = Handle<H5Dclose>;
using GroupHandle = Handle<H5Gclose>;
using SpaceHandle = Handle<H5Sclose>;
using TypeHandle = Handle<H5Tclose>;
using PropertyHandle = Handle<H5Pclose>;
using AttributeHandle = Handle<H5Aclose>;
using ObjectHandle = Handle<H5Oclose>;

// Needed for every call of the library, closing included: its state is global, so one thread at a time in
// this process. HDF5's own printing goes off in the thread that takes it (each thread has its own stack of
// errors), and its locks, which fail on many network file systems: files are published by rename and never
// written while they are read.
[[nodiscard]] std::unique_lock<std::recursive_mutex> library_lock();

// Why the thread's last call failed, from HDF5's stack of errors.
struct LibraryProblem {
  std::string text = "no details";  // the innermost description
  int system_error = 0;             // errno of the system's call that failed; 0: none did
};
LibraryProblem library_problem();

template <typename T>
hid_t native_type();
template <>
inline hid_t native_type<uint8_t>() {
  return H5T_NATIVE_UINT8;
}
template <>
inline hid_t native_type<uint16_t>() {
  return H5T_NATIVE_UINT16;
}
template <>
inline hid_t native_type<int32_t>() {
  return H5T_NATIVE_INT32;
}
template <>
inline hid_t native_type<uint32_t>() {
  return H5T_NATIVE_UINT32;
}
template <>
inline hid_t native_type<int64_t>() {
  return H5T_NATIVE_INT64;
}
template <>
inline hid_t native_type<uint64_t>() {
  return H5T_NATIVE_UINT64;
}
template <>
inline hid_t native_type<float>() {
  return H5T_NATIVE_FLOAT;
}
template <>
inline hid_t native_type<double>() {
  return H5T_NATIVE_DOUBLE;
}

}  // namespace fwl
