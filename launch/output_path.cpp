#include "launch/output_path.h"

#include <sys/stat.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>

#include "core/base/error.h"
#include "core/base/file.h"
#include "launch/data_inspection.h"

namespace fwl {
namespace {

namespace fs = std::filesystem;

constexpr const char* kOutputMark = "file to write";
constexpr size_t kLongestName = 255 - 16;  // a temporary name is longer

// False too where the path cannot be looked at: a user's word may be longer than any name, or lead through a
// file or a folder without rights.
bool is_there(const fs::path& path) {
  std::error_code error;
  return fs::exists(path, error);
}

bool is_folder_at(const fs::path& path) {
  std::error_code error;
  return fs::is_directory(path, error);
}

bool holds(const fs::path& folder, const char* name) {
  return is_there(folder / name);
}

bool is_checkpoint(const fs::path& folder) {
  return is_checkpoint_folder(folder.string());
}

// An unfinished one too.
bool is_dataset(const fs::path& folder) {
  return is_dataset_folder(folder.string()) || holds(folder, "journal.json");
}

bool is_checkpoints_folder(const fs::path& folder) {
  return folder.filename() == "checkpoints" &&
         (holds(folder, "latest") || holds(folder.parent_path(), "config.yaml"));
}

bool is_run(const fs::path& folder) {
  return holds(folder, "config.yaml") && (holds(folder, "checkpoints") || holds(folder, "log.jsonl"));
}

bool holds_shards_of_its_own(const fs::path& folder) {
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error))
    if (entry->path().filename().string().starts_with("shard-")) return true;
  return false;
}

// What a file called `name` in `folder` belongs to, when it must not be written; else nothing.
const char* owner_of(const fs::path& folder, const std::string& name) {
  for (fs::path above = folder; above.has_relative_path(); above = above.parent_path())
    if (is_checkpoint(above) || is_checkpoints_folder(above)) return "a checkpoint";
  const bool of_dataset =
      name.starts_with("manifest.json") || name.starts_with("journal") || name == "tokenizer.model";
  if (of_dataset && is_dataset(folder)) return "a data set";
  if (name.starts_with("shard-") && is_dataset(folder.parent_path())) return "a data set";
  const bool of_run = name == "config.yaml" || name == "log.jsonl" || name == "lock" ||
                      name == "checkpoints" || name.starts_with("events.");
  return of_run && is_run(folder) ? "a run" : nullptr;
}

// Links resolved, as far as it exists.
fs::path resolved(const fs::path& path) {
  std::error_code error;
  fs::path whole = fs::weakly_canonical(fs::absolute(path), error);
  if (error) whole = fs::absolute(path).lexically_normal();
  return whole.filename().empty() ? whole.parent_path() : whole;
}

fs::path folder_of(const std::string& path) {
  const fs::path above = fs::path(path).parent_path();
  return resolved(above.empty() ? "." : above);
}

void require_writable(const fs::path& folder, const std::string& path) {
  const bool writable = ::access(folder.c_str(), W_OK | X_OK) == 0;
  const int error = errno;
  require<UnavailableError>(writable, "'", path, "' cannot be written: the folder '", folder.string(),
                            "': ", std::strerror(error), ". Choose a folder that can be written.");
}

void require_usable_name(const std::string& path) {
  require<ConfigError>(!path.empty(), "a path to write to is empty (nothing would be kept). Give a name.");
  const std::string name = fs::path(path).filename().string();
  require<ConfigError>(name.size() <= kLongestName, "'", path, "': the file's name has ", name.size(),
                       " bytes (too long to be written). Give one of at most ", kLongestName, ".");
}

// The folder of a split, or what lies in it.
bool is_inside_dataset(const fs::path& folder) {
  for (fs::path above = folder; above.has_relative_path(); above = above.parent_path())
    if (is_dataset(above.parent_path()) && holds_shards_of_its_own(above)) return true;
  return false;
}

void require_output_folder(const std::string& path, FolderOf what) {
  require_usable_name(path);
  const fs::path folder = resolved(path);
  const bool replaces = what == FolderOf::kDataset;  // by its own rules
  const char* owner = owner_of(folder, "");
  if (is_inside_dataset(folder) || (!replaces && is_dataset(folder))) owner = "a data set";
  require<ConfigError>(owner == nullptr, "'", path, "' is a folder of ", owner == nullptr ? "" : owner,
                       " (files that are not its own would lie in it). Choose another folder.");
  fs::path there = folder;
  while (!is_there(there) && there.has_relative_path()) there = there.parent_path();
  require<ConfigError>(is_folder_at(there), "'", path, "' cannot be a folder: '", there.string(),
                       "' is a file. Choose another.");
  require_writable(there, path);
}

bool is_same_file(const std::string& a, const std::string& b) {
  struct stat first {
  }, second{};
  if (::stat(a.c_str(), &first) == 0 && ::stat(b.c_str(), &second) == 0)
    return first.st_dev == second.st_dev && first.st_ino == second.st_ino;
  return resolved(a) == resolved(b);
}

bool is_output(const CLI::Option& option) {
  try {
    const_cast<CLI::Option&>(option).get_validator(kOutputMark);
    return true;
  } catch (const CLI::OptionNotFound&) {
    return false;
  }
}

void require_apart(const CLI::Option& output, const std::string& path, const CLI::Option& other) {
  if (&other == &output) return;
  for (const std::string& value : other.results()) {
    std::error_code ignored;  // a text may be longer than any name
    if (!is_output(other) && !fs::is_regular_file(value, ignored)) continue;
    require<ConfigError>(!is_same_file(path, value), output.get_name(), " '", path, "' is the file that ",
                         other.get_name(), " names too (it would be replaced). Choose another file.");
  }
}

}  // namespace

void require_output_file(const std::string& path) {
  require_usable_name(path);
  const fs::path above = fs::path(path).parent_path();
  require<DataError>(above.empty() || is_folder_at(above), "the folder of '", path,
                     "' does not exist (nothing could be written there). Make it first.");
  require_replaceable(path);
  const fs::path folder = folder_of(path);
  const char* owner = owner_of(folder, fs::path(path).filename().string());
  require<ConfigError>(owner == nullptr, "'", path, "' is a file of ", owner == nullptr ? "" : owner,
                       " (it would be destroyed). Choose another file.");
  require_writable(folder, path);
}

CLI::Validator file_in_a_folder() {
  CLI::Validator check(
      [](std::string& path) {
        require_output_file(path);
        return std::string();
      },
      "");
  check.name(kOutputMark);
  return check;
}

CLI::Validator folder_to_fill(FolderOf what) {
  return CLI::Validator(
      [what](std::string& path) {
        require_output_folder(path, what);
        return std::string();
      },
      "");
}

void keep_outputs_apart(CLI::App& command) {
  command.parse_complete_callback([&command] {
    const std::vector<const CLI::Option*> options = const_cast<const CLI::App&>(command).get_options();
    for (const CLI::Option* output : options) {
      if (!is_output(*output)) continue;
      for (const std::string& path : output->results())
        for (const CLI::Option* other : options) require_apart(*output, path, *other);
    }
  });
}

void require_no_input(const std::string& option, const std::string& path,
                      const std::vector<std::string>& inputs) {
  if (path.empty() || !is_there(path)) return;
  for (const std::string& input : inputs)
    require<ConfigError>(!is_same_file(path, input), option, " '", path,
                         "' is one of the files that are read ('", input,
                         "'; it would be replaced). Choose another file.");
}

}  // namespace fwl
