#include "core/base/hdf5_open_file.h"

#include <unistd.h>

#include <array>
#include <cerrno>
#include <utility>

#include "core/base/error.h"
#include "core/base/open_files.h"

namespace fwl {

Hdf5OpenFile::Hdf5OpenFile(std::string path_of_file, std::string kind, Use use_of_file)
    : path(std::move(path_of_file)), what(std::move(kind)), use(use_of_file) {}

Hdf5OpenFile::~Hdf5OpenFile() {
  const auto lock = library_lock();
  release();
}

// Those of kRead whose files are open, most recently used first; touched under the library's lock.
std::list<const Hdf5OpenFile*>& Hdf5OpenFile::readers() {
  static std::list<const Hdf5OpenFile*> all;
  return all;
}

void Hdf5OpenFile::require_open() const {
  if (use == Use::kWrite) return;
  if (file) return readers().splice(readers().begin(), readers(), place_);
  while (static_cast<int64_t>(readers().size()) >= open_file_budget()) readers().back()->release();
  require_same_file();
  file = open_with_room();
  place_ = readers().insert(readers().begin(), this);
}

void Hdf5OpenFile::release() const {
  open.clear();
  if (file && use == Use::kRead) readers().erase(place_);
  file.reset();
}

std::string Hdf5OpenFile::place_of_link() const {
  std::array<char, 4096> target{};
  const ssize_t length = ::readlink(path.c_str(), target.data(), target.size());
  return length < 0 ? ""
                    : cat(", a link to '", std::string(target.data(), static_cast<size_t>(length)), "',");
}

SystemError Hdf5OpenFile::cannot_open(int error) const {
  return SystemError(error, cat(what, " '", path, "'", place_of_link(), " cannot be opened"));
}

// Before it is opened: that of a pipe waits for a writer.
void Hdf5OpenFile::require_same_file() const {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) throw cannot_open(errno);
  require<DataError>(S_ISREG(status.st_mode), what, " '", path, "' is no file. Check the path.");
  const Identity found{status.st_dev, status.st_ino, status.st_size, status.st_mtim.tv_sec,
                       status.st_mtim.tv_nsec};
  require<UnavailableError>(!identity_ || *identity_ == found, what, " '", path,
                            "' was replaced or changed while it was in use (what was read of it may not "
                            "belong to what it holds now). Start again.");
  identity_ = found;
}

// Other files of ours are closed when the system has no room for one more.
FileHandle Hdf5OpenFile::open_with_room() const {
  for (;;) {
    FileHandle opened(H5Fopen(path.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT));
    if (opened) return opened;
    const LibraryProblem said = library_problem();
    const bool no_room =
        said.system_error == EMFILE || said.system_error == ENFILE || said.system_error == ENOMEM;
    if (no_room && !readers().empty()) {
      for (size_t keep = readers().size() / 2; readers().size() > keep;) readers().back()->release();
      continue;
    }
    if (is_unavailable(said.system_error)) throw cannot_open(said.system_error);
    throw DataError(cat(what, " '", path, "' is no readable HDF5 file (", said.text,
                        "; it is damaged, cut off or something else). Make it again, or use another."));
  }
}

}  // namespace fwl
