// HDF5 files: typed reads and writes of whole datasets and of slices, attributes, and listings.
// Only core/base/hdf5.cpp sees the C library (hdf5_library.h).
//
// Handles are move-only and close themselves. A file that is read is open only as far as the process' budget
// goes (open_files.h): the least recently used are closed, and opened again by their next read, which throws
// UnavailableError when the file was changed or replaced meanwhile. A name must lead to a dataset inside the
// file: links to elsewhere, external storage and virtual datasets are refused. Files are opened with file
// locking handled for network file systems. HDF5's own error printing is off; its text goes into the errors,
// which always name path and dataset. Calls of several threads wait for each other: the library has global
// state and is not built for threads.
//
// Reading throws DataError when the content is bad, and UnavailableError when the system refuses
// (SystemError: too many open files, no permission, an I/O error; what may pass is tried again first) or when
// a filter of HDF5's that the file needs is not installed.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace fwl {

// How a dataset is laid out on disk. `chunk_elements` 0: contiguous (then no filter applies).
struct Hdf5Layout {
  int64_t chunk_elements = 0;  // rows of the first dim per chunk
  int deflate_level = 0;       // 0: none
  bool fletcher32 = false;     // checksum per chunk, verified at every read
  bool zstd = false;           // instead of deflate; needs the filter (hdf5_has_zstd)
};

// Whether HDF5's zstd filter (number 32015) is installed as a plugin.
bool hdf5_has_zstd();

// Where a chunk of a dataset lies in the file.
struct Hdf5Chunk {
  int64_t first_row = 0;
  int64_t file_offset = 0, bytes = 0;
};

// T below is one of: uint8_t, uint16_t, int32_t, uint32_t, int64_t, uint64_t, float, double.
class Hdf5File {
 public:
  // Opens for reading. `what` names the kind of file in errors ("golden file").
  static Hdf5File open(const std::string& path, const std::string& what);
  // Makes a new file, replacing one of this name. The same writes give the same bytes. Throws DataError.
  static Hdf5File create(const std::string& path);
  Hdf5File(Hdf5File&&) noexcept;
  Hdf5File& operator=(Hdf5File&&) noexcept;
  ~Hdf5File();

  const std::string& path() const;
  bool has(const std::string& name) const;                       // dataset or group
  std::vector<std::string> datasets() const;                     // full paths of all datasets, sorted
  std::vector<int64_t> shape(const std::string& dataset) const;  // empty: scalar
  // Class and size of the elements: "float32", "float64", "int64", "uint16", ...
  std::string element_type(const std::string& dataset) const;

  // All elements, row-major, converted to T by HDF5.
  template <typename T>
  std::vector<T> read(const std::string& dataset) const;
  // `count` rows of the first dim from `first`, into `out`.
  template <typename T>
  void read_rows(const std::string& dataset, int64_t first, int64_t count, T* out) const;
  // Creates the dataset (and its parent groups) and writes all of it. Empty shape: scalar.
  template <typename T>
  void write(const std::string& dataset, const std::vector<int64_t>& shape, const T* data,
             Hdf5Layout layout = {});
  // Creates an empty dataset of one dim that append() extends. `layout.chunk_elements` must be positive.
  template <typename T>
  void create_growing(const std::string& dataset, Hdf5Layout layout);
  template <typename T>
  void append(const std::string& dataset, const T* data, int64_t count);
  // The stored chunks of a chunked dataset of one dim, in the order of their rows; empty for other layouts.
  // Throws DataError when the index is damaged.
  // HDF5 walks the index from its start for every entry: time grows with the square of their number.
  std::vector<Hdf5Chunk> chunks(const std::string& dataset) const;
  // The one of them that begins at `first_row`; none where none does. One walk of the index.
  std::optional<Hdf5Chunk> chunk_at(const std::string& dataset, int64_t first_row) const;
  // Rows per chunk; 0 when the dataset is not chunked.
  int64_t chunk_rows(const std::string& dataset) const;
  // A list of strings is stored as uint8, a zero after each: HDF5's own strings of variable length are
  // neither compressed nor checked, and the library crashes when they are damaged. No string may hold a zero.
  std::vector<std::string> read_strings(const std::string& dataset) const;
  void write_strings(const std::string& dataset, const std::vector<std::string>& strings,
                     Hdf5Layout layout = {});

  // Attributes of the root group.
  bool has_attribute(const std::string& name) const;
  std::string string_attribute(const std::string& name) const;
  int64_t integer_attribute(const std::string& name) const;
  double number_attribute(const std::string& name) const;
  void set_attribute(const std::string& name, const std::string& value);
  void set_attribute(const std::string& name, int64_t value);
  void set_attribute(const std::string& name, double value);

  // Flushes HDF5's buffers and the file's data to the disk, then closes. Throws DataError (disk full, ...).
  void close();

 private:
  struct Handles;
  explicit Hdf5File(std::unique_ptr<Handles> handles);
  std::unique_ptr<Handles> handles_;
};

std::string hdf5_library_version();

}  // namespace fwl
