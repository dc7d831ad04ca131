#include "core/base/hdf5_handles.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>

#include "core/base/system_error.h"

namespace fwl {
namespace {

constexpr size_t kChunkCacheBytes = size_t{1} << 20;
constexpr size_t kOpenDatasets = 16;  // of a file; a checkpoint's has thousands, each read once

// No sane dataset of this project has more elements; a damaged header may claim so.
constexpr int64_t kMostElements = int64_t{1} << 40;
constexpr double kMostPerStoredByte = 2000;       // elements that a filter has packed
constexpr size_t kLongestText = size_t{1} << 24;  // of an attribute

}  // namespace

std::string Hdf5File::Handles::missing_filter(const std::string& dataset) const {
  const auto found = open.find(dataset);
  if (found == open.end()) return "";
  const PropertyHandle properties(H5Dget_create_plist(found->second.get()));
  const int filters = H5Pget_nfilters(properties.get());
  for (int i = 0; i < filters; ++i) {
    unsigned flags = 0, config = 0;
    size_t values = 0;
    std::array<char, 64> name{};
    const H5Z_filter_t number = H5Pget_filter2(properties.get(), static_cast<unsigned>(i), &flags, &values,
                                               nullptr, name.size() - 1, name.data(), &config);
    if (number <= 0 || H5Zfilter_avail(number) > 0) continue;
    const std::string known = number == kZstdFilter ? "zstd" : name.data();
    return cat("number ", number, known.empty() ? "" : " (" + known + ")");
  }
  return "";
}

void Hdf5File::Handles::fail(const std::string& dataset, const std::string& problem) const {
  const LibraryProblem said = library_problem();
  const std::string where = dataset.empty() ? "" : ": dataset '" + dataset + "'";
  if (use == Use::kRead && is_unavailable(said.system_error)) {
    release();
    throw SystemError(said.system_error, cat(path, where, " cannot be read"));
  }
  const std::string filter = missing_filter(dataset);
  if (!filter.empty()) {
    const char* folders = std::getenv("HDF5_PLUGIN_PATH");
    throw UnavailableError(
        cat(path, where, " needs HDF5's filter ", filter,
            ", which is not installed here (this says nothing about its content; HDF5_PLUGIN_PATH is ",
            folders == nullptr ? "not set" : cat("'", folders, "'"),
            "). Install the plugin, and set HDF5_PLUGIN_PATH to its folder."));
  }
  throw DataError(
      cat(path, where, ": ", problem, " (HDF5: ", said.text, "). Make the file again, or use another."));
}

bool Hdf5File::Handles::answer(htri_t said) const {
  if (said < 0 && is_unavailable(library_problem().system_error)) fail("", "");
  return said > 0;
}

void Hdf5File::Handles::require_written(bool condition, const std::string& dataset) const {
  if (condition) return;
  const LibraryProblem said = library_problem();
  const int error = said.system_error;
  throw DataError(cat(path, dataset.empty() ? "" : ": dataset '" + dataset + "'",
                      ": cannot be written: ", error > 0 ? system_words(error) : said.text, ". ",
                      advice_for(error > 0 ? error : ENOSPC)));
}

void Hdf5File::Handles::require_hard_links(const std::string& name) const {
  for (size_t slash = name.find('/', 1);; slash = name.find('/', slash + 1)) {
    H5L_info_t info;
    const std::string part = name.substr(0, slash);
    require_data(H5Lget_info(file.get(), part.c_str(), &info, H5P_DEFAULT) >= 0, name, "cannot be opened");
    require_data(info.type == H5L_TYPE_HARD, name, "is a link to elsewhere, which is not followed");
    if (slash == std::string::npos) return;
  }
}

void Hdf5File::Handles::require_own_storage(const DatasetHandle& dataset, const std::string& name) const {
  const PropertyHandle properties(H5Dget_create_plist(dataset.get()));
  const H5D_layout_t layout = H5Pget_layout(properties.get());
  require_data(layout == H5D_COMPACT || layout == H5D_CONTIGUOUS || layout == H5D_CHUNKED, name,
               "is no dataset with own storage");
  require_data(H5Pget_external_count(properties.get()) == 0, name,
               "keeps its data in another file, which is not read");
}

const DatasetHandle& Hdf5File::Handles::open_dataset(const std::string& name) const {
  const auto found = open.find(name);
  if (found != open.end()) return found->second;
  require_hard_links(name);
  const PropertyHandle access(H5Pcreate(H5P_DATASET_ACCESS));
  H5Pset_chunk_cache(access.get(), 521, kChunkCacheBytes, 1.0);
  DatasetHandle dataset(H5Dopen2(file.get(), name.c_str(), access.get()));
  require_data(static_cast<bool>(dataset), name, "cannot be opened");
  require_own_storage(dataset, name);
  if (open.size() >= kOpenDatasets) open.clear();
  return open.emplace(name, std::move(dataset)).first->second;
}

int64_t Hdf5File::Handles::chunk_rows_of(const DatasetHandle& dataset) const {
  const PropertyHandle properties(H5Dget_create_plist(dataset.get()));
  hsize_t dims[8] = {};
  if (H5Pget_layout(properties.get()) != H5D_CHUNKED || H5Pget_chunk(properties.get(), 8, dims) < 1) return 0;
  return static_cast<int64_t>(dims[0]);
}

std::vector<int64_t> Hdf5File::Handles::shape_of(const DatasetHandle& dataset,
                                                 const std::string& name) const {
  const SpaceHandle space(H5Dget_space(dataset.get()));
  const int rank = H5Sget_simple_extent_ndims(space.get());
  require_data(rank >= 0 && rank <= 8, name, "has no simple shape");
  std::vector<hsize_t> dims(static_cast<size_t>(rank));
  if (rank > 0)
    require_data(H5Sget_simple_extent_dims(space.get(), dims.data(), nullptr) == rank, name,
                 "has no readable shape");
  std::vector<int64_t> shape;
  double elements = 1;
  for (const hsize_t d : dims) {
    require_data(d < static_cast<hsize_t>(kMostElements), name, "claims ", d, " rows of a dim");
    elements *= static_cast<double>(d);
    shape.push_back(static_cast<int64_t>(d));
  }
  require_data(elements < static_cast<double>(kMostElements), name, "claims ", elements, " elements");
  return shape;
}

void Hdf5File::Handles::require_numeric(const DatasetHandle& dataset, const std::string& name) const {
  const TypeHandle type(H5Dget_type(dataset.get()));
  const H5T_class_t kind = H5Tget_class(type.get());
  require_data(kind == H5T_INTEGER || kind == H5T_FLOAT, name, "holds no numbers");
}

void Hdf5File::Handles::require_stored(const DatasetHandle& dataset, const std::string& name,
                                       int64_t elements) const {
  if (elements <= 1024) return;
  const PropertyHandle properties(H5Dget_create_plist(dataset.get()));
  const TypeHandle type(H5Dget_type(dataset.get()));
  hsize_t in_file = 0;
  require_data(H5Fget_filesize(file.get(), &in_file) >= 0, name, "the size of its file is not known");
  // A header may also claim that it is stored somewhere.
  const auto stored = static_cast<double>(std::min<hsize_t>(H5Dget_storage_size(dataset.get()), in_file));
  const double most = H5Pget_nfilters(properties.get()) > 0
                          ? kMostPerStoredByte * stored + 1024
                          : stored / static_cast<double>(H5Tget_size(type.get()));
  require_data(static_cast<double>(elements) <= most, name, "claims ", elements,
               " elements, but the file stores ", stored, " bytes of it");
}

PropertyHandle Hdf5File::Handles::dataset_properties(const std::vector<int64_t>& shape,
                                                     const Hdf5Layout& layout) const {
  PropertyHandle properties(H5Pcreate(H5P_DATASET_CREATE));
  H5Pset_obj_track_times(properties.get(),
                         0);  // the same content is the same bytes, whenever it is written
  if (layout.chunk_elements <= 0 || shape.empty() || product(shape) == 0) return properties;
  std::vector<hsize_t> chunk(shape.begin(), shape.end());
  chunk[0] = static_cast<hsize_t>(std::min(layout.chunk_elements, shape[0]));
  set_chunks(properties, chunk, layout);
  return properties;
}

void Hdf5File::Handles::set_chunks(const PropertyHandle& properties, const std::vector<hsize_t>& chunk,
                                   const Hdf5Layout& layout) const {
  bool ok = H5Pset_chunk(properties.get(), static_cast<int>(chunk.size()), chunk.data()) >= 0;
  if (layout.deflate_level > 0 || layout.zstd) ok = ok && H5Pset_shuffle(properties.get()) >= 0;
  if (layout.zstd) {
    ok = ok && H5Pset_filter(properties.get(), kZstdFilter, H5Z_FLAG_MANDATORY, 0, nullptr) >= 0;
  } else if (layout.deflate_level > 0) {
    ok = ok && H5Pset_deflate(properties.get(), static_cast<unsigned>(layout.deflate_level)) >= 0;
  }
  if (layout.fletcher32) ok = ok && H5Pset_fletcher32(properties.get()) >= 0;
  require_data(ok, "", "cannot set the chunk layout");
}

void Hdf5File::Handles::create_parents(const std::string& name) const {
  const PropertyHandle properties(H5Pcreate(H5P_GROUP_CREATE));
  H5Pset_obj_track_times(properties.get(), 0);
  for (size_t slash = name.find('/', 1); slash != std::string::npos; slash = name.find('/', slash + 1)) {
    const std::string group = name.substr(0, slash);
    if (H5Lexists(file.get(), group.c_str(), H5P_DEFAULT) > 0) continue;
    const GroupHandle made(H5Gcreate2(file.get(), group.c_str(), H5P_DEFAULT, properties.get(), H5P_DEFAULT));
    require_data(static_cast<bool>(made), name, "its group '", group, "' cannot be created");
  }
}

DatasetHandle Hdf5File::Handles::create_dataset(const std::string& name, hid_t type,
                                                const std::vector<int64_t>& shape,
                                                const Hdf5Layout& layout) const {
  const std::vector<hsize_t> dims(shape.begin(), shape.end());
  const SpaceHandle space(shape.empty()
                              ? H5Screate(H5S_SCALAR)
                              : H5Screate_simple(static_cast<int>(dims.size()), dims.data(), nullptr));
  create_parents(name);
  const PropertyHandle properties = dataset_properties(shape, layout);
  DatasetHandle dataset(
      H5Dcreate2(file.get(), name.c_str(), type, space.get(), H5P_DEFAULT, properties.get(), H5P_DEFAULT));
  require_data(static_cast<bool>(dataset), name, "cannot be created");
  return dataset;
}

AttributeHandle Hdf5File::Handles::open_attribute(const std::string& name) const {
  AttributeHandle attribute(H5Aopen(file.get(), name.c_str(), H5P_DEFAULT));
  require_data(static_cast<bool>(attribute), "", "attribute '", name, "' is missing");
  return attribute;
}

void Hdf5File::Handles::read_rows(const std::string& dataset, int64_t first, int64_t count, hid_t type,
                                  void* out) const {
  const DatasetHandle& handle = open_dataset(dataset);
  require_numeric(handle, dataset);
  const std::vector<int64_t> shape = shape_of(handle, dataset);
  require<DataError>(!shape.empty() && first >= 0 && count >= 0 && first + count <= shape[0], path,
                     ": dataset '", dataset, "': rows ", first, " to ", first + count, " of ",
                     shape.empty() ? 0 : shape[0],
                     " were asked for (the file is shorter than its index says). Make it again.");
  if (count == 0) return;
  std::vector<hsize_t> start(shape.size(), 0), extent(shape.begin(), shape.end());
  start[0] = static_cast<hsize_t>(first);
  extent[0] = static_cast<hsize_t>(count);
  const SpaceHandle file_space(H5Dget_space(handle.get()));
  const SpaceHandle memory_space(H5Screate_simple(static_cast<int>(extent.size()), extent.data(), nullptr));
  const bool ok = H5Sselect_hyperslab(file_space.get(), H5S_SELECT_SET, start.data(), nullptr, extent.data(),
                                      nullptr) >= 0 &&
                  H5Dread(handle.get(), type, memory_space.get(), file_space.get(), H5P_DEFAULT, out) >= 0;
  require_data(ok, dataset, "rows ", first, " to ", first + count,
               " cannot be read (damaged or cut off; the checksum says so)");
}

std::string Hdf5File::Handles::read_string_attribute(const std::string& name) const {
  const AttributeHandle attribute = open_attribute(name);
  const TypeHandle type(H5Aget_type(attribute.get()));
  const SpaceHandle space(H5Aget_space(attribute.get()));
  require_data(H5Tget_class(type.get()) == H5T_STRING && H5Sget_simple_extent_npoints(space.get()) == 1, "",
               "attribute '", name, "' is no string");
  if (H5Tis_variable_str(type.get()) > 0) {
    char* text = nullptr;
    require_data(H5Aread(attribute.get(), type.get(), &text) >= 0 && text != nullptr, "", "attribute '", name,
                 "' cannot be read");
    std::string value = text;
    H5free_memory(text);
    return value;
  }
  const size_t length = H5Tget_size(type.get());
  require_data(length <= kLongestText, "", "attribute '", name, "' claims ", length, " bytes");
  std::string value(length, '\0');
  require_data(H5Aread(attribute.get(), type.get(), value.data()) >= 0, "", "attribute '", name,
               "' cannot be read");
  return value.substr(0, value.find('\0'));
}

}  // namespace fwl
