#include "core/base/hdf5.h"

#include <algorithm>
#include <cerrno>
#include <new>
#include <utility>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/hdf5_handles.h"
#include "core/base/system_error.h"

namespace fwl {
namespace {

template <typename T>
std::vector<T> room_for(int64_t elements, const std::string& path) {
  try {
    return std::vector<T>(static_cast<size_t>(elements));
  } catch (const std::bad_alloc&) {
    throw SystemError(ENOMEM, cat(path, " cannot be read: no room for ", elements, " elements"));
  }
}

}  // namespace

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
    handles_->require_stored(handle, dataset, elements);
    std::vector<T> values = room_for<T>(elements, path());
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
  DatasetHandle handle = handles_->create_dataset(dataset, native_type<T>(), shape, layout);
  if (product(shape) == 0) return;
  handles_->require_written(
      H5Dwrite(handle.get(), native_type<T>(), H5S_ALL, H5S_ALL, H5P_DEFAULT, data) >= 0, dataset);
  // Its chunks go to the file now.
  handles_->require_written(H5Dclose(handle.take()) >= 0, dataset);
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
    handles_->open.clear();
    // It writes once more: that the file is whole.
    handles_->require_written(H5Fclose(handles_->file.take()) >= 0, "");
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
