// An HDF5 file behind one Hdf5File, and when it is open. What is written is open until it is closed. What is
// read is open only as far as the process' budget goes (open_files.h): the least recently used file is closed
// when another needs its place, and opened again by its next call, which asks that it is still the same file.
// No owner of a file knows of it.
#pragma once

#include <sys/stat.h>

#include <list>
#include <map>
#include <optional>
#include <string>

#include "core/base/hdf5_library.h"
#include "core/base/system_error.h"

namespace fwl {

class Hdf5OpenFile {
 public:
  enum class Use { kRead, kWrite };

  // `what` names the kind of file in errors. Opens nothing.
  Hdf5OpenFile(std::string path_of_file, std::string kind, Use use_of_file);
  ~Hdf5OpenFile();
  Hdf5OpenFile(const Hdf5OpenFile&) = delete;
  Hdf5OpenFile& operator=(const Hdf5OpenFile&) = delete;

  const std::string path, what;
  const Use use;
  mutable FileHandle file;                            // of kRead: closed between calls when others need room
  mutable std::map<std::string, DatasetHandle> open;  // declared after `file`: closed before it

  // Runs `call` under the library's lock with the file open; what may pass is tried again. Throws
  // UnavailableError, DataError.
  template <typename Call>
  auto with(const Call& call) const {
    return patiently([&] {
      const auto lock = library_lock();
      require_open();
      return call();
    });
  }
  // Closes datasets and file; the next call opens them again. Under the library's lock.
  void release() const;

 private:
  // What makes a file the one that it was when it was opened first.
  struct Identity {
    dev_t device;
    ino_t inode;
    off_t bytes;
    time_t changed_s;
    long changed_ns;
    bool operator==(const Identity&) const = default;
  };

  static std::list<const Hdf5OpenFile*>& readers();
  void require_open() const;
  void require_same_file() const;
  FileHandle open_with_room() const;
  std::string place_of_link() const;
  SystemError cannot_open(int error) const;

  mutable std::optional<Identity> identity_;                // of kRead, since it was first opened
  mutable std::list<const Hdf5OpenFile*>::iterator place_;  // in readers(), while `file` is open
};

}  // namespace fwl
