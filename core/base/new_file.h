// A file that appears whole or not at all: what is written goes to a file beside it, which takes its place at
// the end. Whatever stands there before stays until then.
#pragma once

#include <string>
#include <string_view>

namespace fwl {

class NewFile {
 public:
  // Makes an empty file beside `path` under a name that nobody has ("PATH.tmp-PID", "PATH.tmp-PID-2", ...).
  // Throws DataError with the system's cause, or as require_replaceable.
  explicit NewFile(std::string path);
  ~NewFile();  // removes that file unless it was published
  NewFile(const NewFile&) = delete;
  NewFile& operator=(const NewFile&) = delete;

  // The file beside, for those who write it by other means than write().
  const std::string& temporary() const { return temporary_; }
  // Appends. Throws DataError.
  void write(std::string_view bytes);
  // Hands what was written to the system: it can be read at temporary(). Throws DataError.
  void flush();
  // Syncs the file, renames it to `path` and syncs the folder. Throws DataError; `path` is as it was then.
  void publish();

 private:
  void write_out(std::string_view bytes);

  std::string path_, temporary_, buffer_;
  int file_ = -1;
};

}  // namespace fwl
