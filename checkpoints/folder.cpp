#include "checkpoints/folder.h"

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <filesystem>
#include <system_error>

#include "core/base/error.h"
#include "core/base/log.h"
#include "core/base/system_error.h"

namespace fwl {
namespace {

namespace fs = std::filesystem;

constexpr const char* kWritingPrefix = ".writing-";
constexpr const char* kRemovedPrefix = ".writing-removed-";
constexpr const char* kStepPrefix = "step-";
constexpr const char* kAsidePrefix = "aside-";

std::string name_of(const std::string& path) {
  return fs::path(path).filename().string();
}

template <typename Wanted>
std::vector<std::string> folders_in(const std::string& dir, Wanted wanted) {
  std::vector<std::string> found;
  std::error_code error;
  for (auto it = fs::directory_iterator(dir, error); !error && it != fs::directory_iterator();
       it.increment(error)) {
    if (!wanted(it->path().filename().string())) continue;
    std::error_code unknown;
    if (it->is_directory(unknown)) found.push_back(it->path().string());
    if (unknown && unknown != std::errc::no_such_file_or_directory)
      throw SystemError(unknown.value(), cat("'", it->path().string(), "' cannot be looked at"));
  }
  // Taken for empty, a run would start afresh over its own checkpoints.
  const bool missing = error == std::errc::no_such_file_or_directory || error == std::errc::not_a_directory;
  if (error && !missing) throw SystemError(error.value(), cat("'", dir, "' cannot be listed"));
  return found;
}

// std::filesystem's errors as ours.
template <typename Body>
void on_files_of(const std::string& dir, Body body) {
  try {
    body();
  } catch (const fs::filesystem_error& error) {
    throw DataError(cat("'", dir, "': ", error.what(), ". Check the folder's permissions and the disk."));
  }
}

}  // namespace

std::string step_name(int64_t step) {
  char name[32];
  std::snprintf(name, sizeof name, "step-%07lld", static_cast<long long>(step));
  return name;
}

int64_t step_of_name(const std::string& name) {
  const size_t digits = name.rfind(kStepPrefix, 0) == 0 ? name.size() - 5 : 0;
  const bool is_number =
      digits > 0 && digits <= 18 &&
      std::all_of(name.begin() + 5, name.end(), [](unsigned char c) { return std::isdigit(c) != 0; });
  return is_number ? std::stoll(name.substr(5)) : -1;
}

std::vector<std::string> list_checkpoints(const std::string& checkpoints_dir) {
  auto found = folders_in(checkpoints_dir, [](const std::string& name) { return step_of_name(name) >= 0; });
  std::sort(found.begin(), found.end(), [](const std::string& a, const std::string& b) {
    return step_of_name(name_of(a)) > step_of_name(name_of(b));
  });
  return found;
}

std::vector<std::string> list_unfinished(const std::string& checkpoints_dir) {
  return folders_in(checkpoints_dir,
                    [](const std::string& name) { return name.rfind(kWritingPrefix, 0) == 0; });
}

std::string find_checkpoint(const std::string& path) {
  require<DataError>(fs::is_directory(path), "checkpoint '", path,
                     "' does not exist. Give a run's folder or one of its checkpoints.");
  const std::string folder = fs::path(path).filename().empty() ? fs::path(path).parent_path().string() : path;
  if (step_of_name(name_of(folder)) >= 0) return folder;
  for (const std::string& dir : {path + "/checkpoints", path}) {
    const auto all = list_checkpoints(dir);
    if (!all.empty()) return all.front();
  }
  throw DataError(cat("'", path, "' holds no checkpoint. Give a run's folder or one of its checkpoints."));
}

void remove_old(const std::string& checkpoints_dir, Retention retention) {
  const auto all = list_checkpoints(checkpoints_dir);
  std::string problem;
  for (size_t i = static_cast<size_t>(retention.newest); retention.newest > 0 && i < all.size(); ++i) {
    const int64_t step = step_of_name(name_of(all[i]));
    if (retention.every > 0 && step % retention.every == 0) continue;
    const std::string going = cat(checkpoints_dir, "/", kRemovedPrefix, name_of(all[i]));
    std::error_code error;
    fs::rename(all[i], going, error);
    if (!error) fs::remove_all(going, error);
    if (error && problem.empty()) problem = cat("'", all[i], "' cannot be removed: ", error.message());
  }
  require<DataError>(problem.empty(), problem,
                     " (it takes room). Check the folder's permissions and the disk.");
}

std::string aside_name_of(const std::string& step_dir) {
  const std::string plain =
      cat(fs::path(step_dir).parent_path().string(), "/", kAsidePrefix, name_of(step_dir));
  std::string name = plain;
  for (int n = 2; fs::exists(name); ++n) name = cat(plain, ".", n);
  return name;
}

bool is_folder(const std::string& path) {
  std::error_code unknown;
  return fs::is_directory(path, unknown);
}

void set_later_aside(const std::string& checkpoints_dir, int64_t step) {
  on_files_of(checkpoints_dir, [&] {
    for (const std::string& later : list_checkpoints(checkpoints_dir)) {
      if (step_of_name(name_of(later)) <= step) return;
      const std::string aside = aside_name_of(later);
      fs::rename(later, aside);
      log_warn(
          cat("'", later,
              "' is of a later step than the one saved now, from before the run was resumed: it is now '",
              aside, "', which nothing reads. Remove it when it is not needed."));
    }
  });
}

std::string writing_dir_of(const std::string& checkpoints_dir, int64_t step) {
  return checkpoints_dir + "/" + kWritingPrefix + step_name(step);
}

void remove_unfinished(const std::string& checkpoints_dir) {
  on_files_of(checkpoints_dir, [&] {
    for (const std::string& dir : list_unfinished(checkpoints_dir)) {
      std::error_code error;
      fs::remove_all(dir, error);
      // What is going hinders nobody: a reader may hold its files (on NFS they stay until it ends).
      if (error && name_of(dir).rfind(kRemovedPrefix, 0) != 0)
        throw fs::filesystem_error("removing", dir, error);
    }
  });
}

}  // namespace fwl
