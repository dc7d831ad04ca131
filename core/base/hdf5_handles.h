// What the calls of an Hdf5File are made of: its datasets, their shapes, layouts and filters, its attributes,
// and the errors that say which of them, and whether the system or the content is to blame. Every function
// runs under the library's lock with the file open (Hdf5OpenFile::with).
#pragma once

#include <cstdint>
#include <functional>
#include <numeric>
#include <string>
#include <vector>

#include "core/base/error.h"
#include "core/base/hdf5.h"
#include "core/base/hdf5_open_file.h"

namespace fwl {

inline constexpr H5Z_filter_t kZstdFilter = 32015;

inline int64_t product(const std::vector<int64_t>& shape) {
  return std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<>());
}

struct Hdf5File::Handles : Hdf5OpenFile {
  using Hdf5OpenFile::Hdf5OpenFile;

  // A filter that the dataset's chunks went through and that is not installed here; empty: none.
  std::string missing_filter(const std::string& dataset) const;

  // After a call that failed: the system, a filter that is not there, or the content.
  [[noreturn]] void fail(const std::string& dataset, const std::string& problem) const;

  template <typename... Parts>
  void require_data(bool condition, const std::string& dataset, const Parts&... parts) const {
    if (!condition) fail(dataset, cat(parts...));
  }

  // For questions that may fail: a system that refuses is no answer.
  bool answer(htri_t said) const;

  void require_written(bool condition, const std::string& dataset) const;

  // Every part of the name must be a hard link: others lead to places that may change, or out of the file.
  void require_hard_links(const std::string& name) const;

  void require_own_storage(const DatasetHandle& dataset, const std::string& name) const;

  // Chunks hold few elements and windows are read at random: a cache that holds some chunks is enough.
  const DatasetHandle& open_dataset(const std::string& name) const;

  // 0: not chunked.
  int64_t chunk_rows_of(const DatasetHandle& dataset) const;

  std::vector<int64_t> shape_of(const DatasetHandle& dataset, const std::string& name) const;

  void require_numeric(const DatasetHandle& dataset, const std::string& name) const;

  // A dataset may claim far more than the file holds: asked before room for it is made.
  void require_stored(const DatasetHandle& dataset, const std::string& name, int64_t elements) const;

  PropertyHandle dataset_properties(const std::vector<int64_t>& shape, const Hdf5Layout& layout) const;

  void set_chunks(const PropertyHandle& properties, const std::vector<hsize_t>& chunk,
                  const Hdf5Layout& layout) const;

  // The groups above `name` that are not there yet.
  void create_parents(const std::string& name) const;

  DatasetHandle create_dataset(const std::string& name, hid_t type, const std::vector<int64_t>& shape,
                               const Hdf5Layout& layout) const;

  AttributeHandle open_attribute(const std::string& name) const;

  void read_rows(const std::string& dataset, int64_t first, int64_t count, hid_t type, void* out) const;

  std::string read_string_attribute(const std::string& name) const;

  template <typename T>
  T read_number_attribute(const std::string& name) const {
    const AttributeHandle attribute = open_attribute(name);
    const TypeHandle type(H5Aget_type(attribute.get()));
    const SpaceHandle space(H5Aget_space(attribute.get()));
    const H5T_class_t kind = H5Tget_class(type.get());
    T value{};
    require_data((kind == H5T_INTEGER || kind == H5T_FLOAT) &&
                     H5Sget_simple_extent_npoints(space.get()) == 1 &&
                     H5Aread(attribute.get(), native_type<T>(), &value) >= 0,
                 "", "attribute '", name, "' is no number");
    return value;
  }

  template <typename T>
  void write_attribute(const std::string& name, hid_t type, const T* value) const {
    const SpaceHandle space(H5Screate(H5S_SCALAR));
    if (H5Aexists(file.get(), name.c_str()) > 0) H5Adelete(file.get(), name.c_str());
    const AttributeHandle attribute(
        H5Acreate2(file.get(), name.c_str(), type, space.get(), H5P_DEFAULT, H5P_DEFAULT));
    require_data(attribute && H5Awrite(attribute.get(), type, value) >= 0, "", "attribute '", name,
                 "' cannot be written");
  }
};

}  // namespace fwl
