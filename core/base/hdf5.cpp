#include "core/base/hdf5.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <map>
#include <numeric>
#include <utility>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/hdf5_open_file.h"
#include "core/base/system_error.h"

namespace fwl {
namespace {

constexpr H5Z_filter_t kZstdFilter = 32015;
constexpr size_t kChunkCacheBytes = size_t{1} << 20;
constexpr size_t kOpenDatasets = 16;  // of a file; a checkpoint's has thousands, each read once

// No sane dataset of this project has more elements; a damaged header may claim so.
constexpr int64_t kMostElements = int64_t{1} << 40;

int64_t product(const std::vector<int64_t>& shape) {
  return std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<>());
}

}  // namespace

// What the calls below are made of.
struct Hdf5File::Handles : Hdf5OpenFile {
  using Hdf5OpenFile::Hdf5OpenFile;

  // A filter that the dataset's chunks went through and that is not installed here; empty: none.
  std::string missing_filter(const std::string& dataset) const {
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

  // After a call that failed: the system, a filter that is not there, or the content.
  [[noreturn]] void fail(const std::string& dataset, const std::string& problem) const {
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

  template <typename... Parts>
  void require_data(bool condition, const std::string& dataset, const Parts&... parts) const {
    if (!condition) fail(dataset, cat(parts...));
  }

  // For questions that may fail: a system that refuses is no answer.
  bool answer(htri_t said) const {
    if (said < 0 && is_unavailable(library_problem().system_error)) fail("", "");
    return said > 0;
  }

  void require_written(bool condition, const std::string& dataset) const {
    if (condition) return;
    const LibraryProblem said = library_problem();
    const int error = said.system_error;
    throw DataError(cat(path, dataset.empty() ? "" : ": dataset '" + dataset + "'",
                        ": cannot be written: ", error > 0 ? system_words(error) : said.text, ". ",
                        advice_for(error > 0 ? error : ENOSPC)));
  }

  // Every part of the name must be a hard link: others lead to places that may change, or out of the file.
  void require_hard_links(const std::string& name) const {
    for (size_t slash = name.find('/', 1);; slash = name.find('/', slash + 1)) {
      H5L_info_t info;
      const std::string part = name.substr(0, slash);
      require_data(H5Lget_info(file.get(), part.c_str(), &info, H5P_DEFAULT) >= 0, name, "cannot be opened");
      require_data(info.type == H5L_TYPE_HARD, name, "is a link to elsewhere, which is not followed");
      if (slash == std::string::npos) return;
    }
  }

  void require_own_storage(const DatasetHandle& dataset, const std::string& name) const {
    const PropertyHandle properties(H5Dget_create_plist(dataset.get()));
    const H5D_layout_t layout = H5Pget_layout(properties.get());
    require_data(layout == H5D_COMPACT || layout == H5D_CONTIGUOUS || layout == H5D_CHUNKED, name,
                 "is no dataset with own storage");
    require_data(H5Pget_external_count(properties.get()) == 0, name,
                 "keeps its data in another file, which is not read");
  }

  // Chunks hold few elements and windows are read at random: a cache that holds some chunks is enough.
  const DatasetHandle& open_dataset(const std::string& name) const {
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

  // 0: not chunked.
  int64_t chunk_rows_of(const DatasetHandle& dataset) const {
    const PropertyHandle properties(H5Dget_create_plist(dataset.get()));
    hsize_t dims[8] = {};
    if (H5Pget_layout(properties.get()) != H5D_CHUNKED || H5Pget_chunk(properties.get(), 8, dims) < 1)
      return 0;
    return static_cast<int64_t>(dims[0]);
  }

  std::vector<int64_t> shape_of(const DatasetHandle& dataset, const std::string& name) const {
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
      elements *= static_cast<double>(d);
      shape.push_back(static_cast<int64_t>(d));
    }
    require_data(elements < static_cast<double>(kMostElements), name, "claims ", elements, " elements");
    return shape;
  }

  void require_numeric(const DatasetHandle& dataset, const std::string& name) const {
    const TypeHandle type(H5Dget_type(dataset.get()));
    const H5T_class_t kind = H5Tget_class(type.get());
    require_data(kind == H5T_INTEGER || kind == H5T_FLOAT, name, "holds no numbers");
  }

  PropertyHandle dataset_properties(const std::vector<int64_t>& shape, const Hdf5Layout& layout) const {
    PropertyHandle properties(H5Pcreate(H5P_DATASET_CREATE));
    H5Pset_obj_track_times(properties.get(),
                           0);  // the same content is the same bytes, whenever it is written
    if (layout.chunk_elements <= 0 || shape.empty() || product(shape) == 0) return properties;
    std::vector<hsize_t> chunk(shape.begin(), shape.end());
    chunk[0] = static_cast<hsize_t>(std::min(layout.chunk_elements, shape[0]));
    set_chunks(properties, chunk, layout);
    return properties;
  }

  void set_chunks(const PropertyHandle& properties, const std::vector<hsize_t>& chunk,
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

  // The groups above `name` that are not there yet.
  void create_parents(const std::string& name) const {
    const PropertyHandle properties(H5Pcreate(H5P_GROUP_CREATE));
    H5Pset_obj_track_times(properties.get(), 0);
    for (size_t slash = name.find('/', 1); slash != std::string::npos; slash = name.find('/', slash + 1)) {
      const std::string group = name.substr(0, slash);
      if (H5Lexists(file.get(), group.c_str(), H5P_DEFAULT) > 0) continue;
      const GroupHandle made(
          H5Gcreate2(file.get(), group.c_str(), H5P_DEFAULT, properties.get(), H5P_DEFAULT));
      require_data(static_cast<bool>(made), name, "its group '", group, "' cannot be created");
    }
  }

  DatasetHandle create_dataset(const std::string& name, hid_t type, const std::vector<int64_t>& shape,
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

  AttributeHandle open_attribute(const std::string& name) const {
    AttributeHandle attribute(H5Aopen(file.get(), name.c_str(), H5P_DEFAULT));
    require_data(static_cast<bool>(attribute), "", "attribute '", name, "' is missing");
    return attribute;
  }

  void read_rows(const std::string& dataset, int64_t first, int64_t count, hid_t type, void* out) const {
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
    const bool ok = H5Sselect_hyperslab(file_space.get(), H5S_SELECT_SET, start.data(), nullptr,
                                        extent.data(), nullptr) >= 0 &&
                    H5Dread(handle.get(), type, memory_space.get(), file_space.get(), H5P_DEFAULT, out) >= 0;
    require_data(ok, dataset, "rows ", first, " to ", first + count,
                 " cannot be read (damaged or cut off; the checksum says so)");
  }

  std::string read_string_attribute(const std::string& name) const {
    const AttributeHandle attribute = open_attribute(name);
    const TypeHandle type(H5Aget_type(attribute.get()));
    const SpaceHandle space(H5Aget_space(attribute.get()));
    require_data(H5Tget_class(type.get()) == H5T_STRING && H5Sget_simple_extent_npoints(space.get()) == 1, "",
                 "attribute '", name, "' is no string");
    if (H5Tis_variable_str(type.get()) > 0) {
      char* text = nullptr;
      require_data(H5Aread(attribute.get(), type.get(), &text) >= 0 && text != nullptr, "", "attribute '",
                   name, "' cannot be read");
      std::string value = text;
      H5free_memory(text);
      return value;
    }
    std::string value(H5Tget_size(type.get()), '\0');
    require_data(H5Aread(attribute.get(), type.get(), value.data()) >= 0, "", "attribute '", name,
                 "' cannot be read");
    return value.substr(0, value.find('\0'));
  }

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

Hdf5File::Hdf5File(std::unique_ptr<Handles> handles) : handles_(std::move(handles)) {}
Hdf5File::Hdf5File(Hdf5File&&) noexcept = default;
Hdf5File& Hdf5File::operator=(Hdf5File&&) noexcept = default;
Hdf5File::~Hdf5File() = default;

Hdf5File Hdf5File::open(const std::string& path, const std::string& what) {
  auto handles = std::make_unique<Handles>(path, what, Handles::Use::kRead);
  handles->with([] {});
  return Hdf5File(std::move(handles));
}

Hdf5File Hdf5File::create(const std::string& path) {
  const auto lock = library_lock();
  auto handles = std::make_unique<Handles>(path, "file", Handles::Use::kWrite);
  // The format of HDF5 1.10 has checksums on its metadata; the library crashes on damaged metadata of older
  // ones.
  const PropertyHandle access(H5Pcreate(H5P_FILE_ACCESS));
  H5Pset_libver_bounds(access.get(), H5F_LIBVER_V110, H5F_LIBVER_V110);
  const PropertyHandle creation(H5Pcreate(H5P_FILE_CREATE));
  H5Pset_obj_track_times(creation.get(), 0);
  handles->file = FileHandle(H5Fcreate(path.c_str(), H5F_ACC_TRUNC, creation.get(), access.get()));
  if (!handles->file) {
    const LibraryProblem said = library_problem();
    const int error = said.system_error;
    throw DataError(cat("cannot create '", path, "': ", error > 0 ? system_words(error) : said.text, ". ",
                        error > 0 ? advice_for(error) : "Check the folder, its permissions and free space."));
  }
  return Hdf5File(std::move(handles));
}

const std::string& Hdf5File::path() const {
  return handles_->path;
}

bool Hdf5File::has(const std::string& name) const {
  return handles_->with([&] {
    // H5Lexists wants every parent to exist: ask from the root down.
    for (size_t slash = name.find('/', 1);; slash = name.find('/', slash + 1)) {
      const std::string part = name.substr(0, slash);
      if (!handles_->answer(H5Lexists(handles_->file.get(), part.c_str(), H5P_DEFAULT))) return false;
      if (slash == std::string::npos) return true;
    }
  });
}

std::vector<std::string> Hdf5File::datasets() const {
  return handles_->with([&] {
    std::vector<std::string> names;
    const herr_t visited = H5Ovisit(
        handles_->file.get(), H5_INDEX_NAME, H5_ITER_NATIVE,
        [](hid_t, const char* name, const H5O_info_t* info, void* out) -> herr_t {
          if (info->type == H5O_TYPE_DATASET) static_cast<std::vector<std::string>*>(out)->push_back(name);
          return 0;
        },
        &names);
    handles_->require_data(visited >= 0, "", "its groups cannot be listed");
    std::sort(names.begin(), names.end());
    return names;
  });
}

bool hdf5_has_zstd() {
  const auto lock = library_lock();
  return H5Zfilter_avail(kZstdFilter) > 0;
}

int64_t Hdf5File::chunk_rows(const std::string& dataset) const {
  return handles_->with([&] { return handles_->chunk_rows_of(handles_->open_dataset(dataset)); });
}

std::vector<Hdf5Chunk> Hdf5File::chunks(const std::string& dataset) const {
  return handles_->with([&] {
    const DatasetHandle& handle = handles_->open_dataset(dataset);
    std::vector<Hdf5Chunk> found;
    if (handles_->chunk_rows_of(handle) == 0 || handles_->shape_of(handle, dataset).size() != 1) return found;
    const SpaceHandle space(H5Dget_space(handle.get()));
    hsize_t count = 0;
    handles_->require_data(H5Dget_num_chunks(handle.get(), space.get(), &count) >= 0, dataset,
                           "its chunk index is damaged");
    for (hsize_t i = 0; i < count; ++i) {
      hsize_t row = 0, bytes = 0;
      unsigned mask = 0;
      haddr_t address = 0;
      handles_->require_data(
          H5Dget_chunk_info(handle.get(), space.get(), i, &row, &mask, &address, &bytes) >= 0, dataset,
          "its chunk index is damaged");
      found.push_back(
          {static_cast<int64_t>(row), static_cast<int64_t>(address), static_cast<int64_t>(bytes)});
    }
    return found;
  });
}

std::optional<Hdf5Chunk> Hdf5File::chunk_at(const std::string& dataset, int64_t first_row) const {
  return handles_->with([&]() -> std::optional<Hdf5Chunk> {
    const DatasetHandle& handle = handles_->open_dataset(dataset);
    if (handles_->chunk_rows_of(handle) == 0 || handles_->shape_of(handle, dataset).size() != 1) return {};
    const auto row = static_cast<hsize_t>(first_row);
    hsize_t bytes = 0;
    unsigned mask = 0;
    haddr_t address = HADDR_UNDEF;
    handles_->require_data(H5Dget_chunk_info_by_coord(handle.get(), &row, &mask, &address, &bytes) >= 0,
                           dataset, "its chunk index is damaged");
    if (address == HADDR_UNDEF) return {};
    return Hdf5Chunk{first_row, static_cast<int64_t>(address), static_cast<int64_t>(bytes)};
  });
}

std::vector<int64_t> Hdf5File::shape(const std::string& dataset) const {
  return handles_->with([&] { return handles_->shape_of(handles_->open_dataset(dataset), dataset); });
}

std::string Hdf5File::element_type(const std::string& dataset) const {
  return handles_->with([&]() -> std::string {
    const DatasetHandle& handle = handles_->open_dataset(dataset);
    const TypeHandle type(H5Dget_type(handle.get()));
    const H5T_class_t kind = H5Tget_class(type.get());
    const size_t bits = 8 * H5Tget_size(type.get());
    if (kind == H5T_FLOAT) return cat("float", bits);
    if (kind == H5T_INTEGER) return cat(H5Tget_sign(type.get()) == H5T_SGN_NONE ? "uint" : "int", bits);
    return kind == H5T_STRING ? "string" : "other";
  });
}

template <typename T>
std::vector<T> Hdf5File::read(const std::string& dataset) const {
  return handles_->with([&] {
    const DatasetHandle& handle = handles_->open_dataset(dataset);
    handles_->require_numeric(handle, dataset);
    const int64_t elements = product(handles_->shape_of(handle, dataset));
    // A chunked dataset may claim far more than the file holds: do not allocate it before asking.
    const auto stored = H5Dget_storage_size(handle.get());
    handles_->require_data(
        elements <= 1024 || static_cast<double>(elements) <= 2000.0 * static_cast<double>(stored) + 1024,
        dataset, "claims ", elements, " elements, but the file stores ", stored, " bytes of it");
    std::vector<T> values(static_cast<size_t>(elements));
    if (elements == 0) return values;
    handles_->require_data(
        H5Dread(handle.get(), native_type<T>(), H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data()) >= 0, dataset,
        "cannot be read (damaged or cut off; the checksum says so)");
    return values;
  });
}

template <typename T>
void Hdf5File::read_rows(const std::string& dataset, int64_t first, int64_t count, T* out) const {
  handles_->with([&] { handles_->read_rows(dataset, first, count, native_type<T>(), out); });
}

template <typename T>
void Hdf5File::write(const std::string& dataset, const std::vector<int64_t>& shape, const T* data,
                     Hdf5Layout layout) {
  const auto lock = library_lock();
  const DatasetHandle handle = handles_->create_dataset(dataset, native_type<T>(), shape, layout);
  if (product(shape) == 0) return;
  handles_->require_written(
      H5Dwrite(handle.get(), native_type<T>(), H5S_ALL, H5S_ALL, H5P_DEFAULT, data) >= 0, dataset);
}

template <typename T>
void Hdf5File::create_growing(const std::string& dataset, Hdf5Layout layout) {
  const auto lock = library_lock();
  const hsize_t none = 0, unlimited = H5S_UNLIMITED;
  const SpaceHandle space(H5Screate_simple(1, &none, &unlimited));
  handles_->create_parents(dataset);
  const PropertyHandle properties(H5Pcreate(H5P_DATASET_CREATE));
  H5Pset_obj_track_times(properties.get(), 0);
  handles_->set_chunks(properties, {static_cast<hsize_t>(layout.chunk_elements)}, layout);
  const DatasetHandle made(H5Dcreate2(handles_->file.get(), dataset.c_str(), native_type<T>(), space.get(),
                                      H5P_DEFAULT, properties.get(), H5P_DEFAULT));
  handles_->require_data(static_cast<bool>(made), dataset, "cannot be created");
}

template <typename T>
void Hdf5File::append(const std::string& dataset, const T* data, int64_t count) {
  const auto lock = library_lock();
  const DatasetHandle& handle = handles_->open_dataset(dataset);
  const auto before = static_cast<hsize_t>(handles_->shape_of(handle, dataset).at(0));
  const auto extent = static_cast<hsize_t>(count);
  const hsize_t after = before + extent;
  if (count == 0) return;
  bool ok = H5Dset_extent(handle.get(), &after) >= 0;
  const SpaceHandle file_space(H5Dget_space(handle.get()));
  const SpaceHandle memory_space(H5Screate_simple(1, &extent, nullptr));
  ok = ok && H5Sselect_hyperslab(file_space.get(), H5S_SELECT_SET, &before, nullptr, &extent, nullptr) >= 0 &&
       H5Dwrite(handle.get(), native_type<T>(), memory_space.get(), file_space.get(), H5P_DEFAULT, data) >= 0;
  handles_->require_written(ok, dataset);
}

std::vector<std::string> Hdf5File::read_strings(const std::string& dataset) const {
  const bool is_bytes = element_type(dataset) == "uint8" && shape(dataset).size() == 1;
  const std::vector<uint8_t> bytes = is_bytes ? read<uint8_t>(dataset) : std::vector<uint8_t>(1, 1);
  require<DataError>(bytes.empty() || bytes.back() == 0, path(), ": dataset '", dataset,
                     "' is no list of strings (bytes, a zero after each string). Make the file again.");
  std::vector<std::string> strings;
  for (auto begin = bytes.begin(); begin != bytes.end();) {
    const auto end = std::find(begin, bytes.end(), uint8_t{0});
    strings.emplace_back(begin, end);
    begin = end + 1;
  }
  return strings;
}

void Hdf5File::write_strings(const std::string& dataset, const std::vector<std::string>& strings,
                             Hdf5Layout layout) {
  std::vector<uint8_t> bytes;
  for (const std::string& text : strings) {
    require<InternalError>(text.find('\0') == std::string::npos, path(), ": dataset '", dataset,
                           "': a string holds a zero byte");
    bytes.insert(bytes.end(), text.begin(), text.end());
    bytes.push_back(0);
  }
  write(dataset, {static_cast<int64_t>(bytes.size())}, bytes.data(), layout);
}

bool Hdf5File::has_attribute(const std::string& name) const {
  return handles_->with([&] { return handles_->answer(H5Aexists(handles_->file.get(), name.c_str())); });
}
std::string Hdf5File::string_attribute(const std::string& name) const {
  return handles_->with([&] { return handles_->read_string_attribute(name); });
}
int64_t Hdf5File::integer_attribute(const std::string& name) const {
  return handles_->with([&] { return handles_->read_number_attribute<int64_t>(name); });
}
double Hdf5File::number_attribute(const std::string& name) const {
  return handles_->with([&] { return handles_->read_number_attribute<double>(name); });
}

void Hdf5File::set_attribute(const std::string& name, const std::string& value) {
  const auto lock = library_lock();
  // Of fixed length: the library crashes on damaged strings of variable length.
  const TypeHandle type(H5Tcopy(H5T_C_S1));
  H5Tset_size(type.get(), value.size() + 1);
  H5Tset_cset(type.get(), H5T_CSET_UTF8);
  handles_->write_attribute(name, type.get(), value.c_str());
}
void Hdf5File::set_attribute(const std::string& name, int64_t value) {
  const auto lock = library_lock();
  handles_->write_attribute(name, H5T_NATIVE_INT64, &value);
}
void Hdf5File::set_attribute(const std::string& name, double value) {
  const auto lock = library_lock();
  handles_->write_attribute(name, H5T_NATIVE_DOUBLE, &value);
}

void Hdf5File::close() {
  {
    const auto lock = library_lock();
    handles_->require_written(H5Fflush(handles_->file.get(), H5F_SCOPE_GLOBAL) >= 0, "");
    handles_->release();
  }
  sync_path(handles_->path);  // seconds for a large file: other threads' reads do not wait for it
}

std::string hdf5_library_version() {
  unsigned major = 0, minor = 0, release = 0;
  H5get_libversion(&major, &minor, &release);
  return cat(major, ".", minor, ".", release);
}

#define FWL_HDF5_INSTANTIATE(T)                                                         \
  template std::vector<T> Hdf5File::read<T>(const std::string&) const;                  \
  template void Hdf5File::read_rows<T>(const std::string&, int64_t, int64_t, T*) const; \
  template void Hdf5File::create_growing<T>(const std::string&, Hdf5Layout);            \
  template void Hdf5File::append<T>(const std::string&, const T*, int64_t);             \
  template void Hdf5File::write<T>(const std::string&, const std::vector<int64_t>&, const T*, Hdf5Layout);
FWL_HDF5_INSTANTIATE(uint8_t)
FWL_HDF5_INSTANTIATE(uint16_t)
FWL_HDF5_INSTANTIATE(int32_t)
FWL_HDF5_INSTANTIATE(uint32_t)
FWL_HDF5_INSTANTIATE(int64_t)
FWL_HDF5_INSTANTIATE(uint64_t)
FWL_HDF5_INSTANTIATE(float)
FWL_HDF5_INSTANTIATE(double)
#undef FWL_HDF5_INSTANTIATE

}  // namespace fwl
