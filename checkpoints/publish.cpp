#include "checkpoints/publish.h"

#include <fcntl.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>

#include "checkpoints/reader.h"
#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/hash.h"
#include "core/base/log.h"
#include "parallel/software.h"

namespace fwl {
namespace {

namespace fs = std::filesystem;

void merge_part(const std::string& writing_dir, int rank, CheckpointManifest* manifest) {
  const std::string path = writing_dir + "/" + part_index_name(rank);
  PartIndex part = parse_part_index(read_file(path, "index of a checkpoint's part"), path);
  manifest->files[part.file] = part.checksum;
  for (auto& [name, tensor] : part.tensors) {
    TensorEntry& whole = manifest->tensors[name];
    require<DataError>(whole.slices.empty() || (whole.shape == tensor.shape && whole.dtype == tensor.dtype),
                       path, ": tensor '", name,
                       "' has another shape or dtype than on an earlier rank (the ranks disagree). ",
                       "Start all ranks with the same config and program.");
    whole.dtype = tensor.dtype;
    whole.shape = tensor.shape;
    whole.slices.insert(whole.slices.end(), tensor.slices.begin(), tensor.slices.end());
  }
}

CheckpointManifest merge_parts(const std::string& writing_dir, const CheckpointInfo& info) {
  CheckpointManifest manifest;
  manifest.info = info;
  const auto programs = software();
  manifest.info.program = {programs.begin(), programs.end()};
  for (int rank = 0; rank < info.layout.ranks; ++rank) merge_part(writing_dir, rank, &manifest);
  for (auto& [name, tensor] : manifest.tensors) {
    std::sort(tensor.slices.begin(), tensor.slices.end(),
              [](const SliceEntry& a, const SliceEntry& b) { return a.first < b.first; });
    check_coverage(name, tensor, writing_dir);
  }
  return manifest;
}

void write_tokenizer(const std::string& writing_dir, CheckpointManifest* manifest) {
  const std::string& bytes = manifest->info.tokenizer_bytes;
  manifest->tokenizer_hash = hash_bytes(bytes);
  if (bytes.empty()) return;
  publish_file(writing_dir + "/" + kCheckpointTokenizer, bytes);
  manifest->files[kCheckpointTokenizer] = {static_cast<int64_t>(bytes.size()), checksum_of(bytes)};
}

// Runs `body` with std::filesystem's errors as ours.
template <typename Body>
void writing(const std::string& target, Body body) {
  try {
    body();
  } catch (const fs::filesystem_error& error) {
    throw DataError(cat("checkpoint '", target, "' could not be written: ", error.what(),
                        ". Free space or check the folder's permissions."));
  }
}

// Both names stay there at any moment. False where the file system cannot.
bool exchange(const std::string& a, const std::string& b) {
  return ::renameat2(AT_FDCWD, a.c_str(), AT_FDCWD, b.c_str(), RENAME_EXCHANGE) == 0;
}

// A checkpoint of the same step from an earlier try is there until the new one is, and removed after that. (A
// folder cannot be renamed onto one with content.) Where two names cannot be exchanged it goes aside
// meanwhile, under a name that nothing removes: a kill in between loses neither.
void rename_into_place(const std::string& from, const std::string& target) {
  if (!fs::exists(target)) return fs::rename(from, target);
  std::string old = from;
  if (!exchange(from, target)) {
    old = aside_name_of(target);
    fs::rename(target, old);
    std::error_code failed;
    fs::rename(from, target, failed);
    if (failed) {
      fs::rename(old, target);
      throw fs::filesystem_error("renaming", from, target, failed);
    }
  }
  sync_path(fs::path(target).parent_path().string());
  fs::remove_all(old);
}

}  // namespace

std::string prepare_checkpoint(const std::string& checkpoints_dir, int64_t step) {
  const std::string dir = writing_dir_of(checkpoints_dir, step);
  writing(dir, [&] {
    fs::create_directories(checkpoints_dir);
    remove_unfinished(checkpoints_dir);
    fs::create_directory(dir);
  });
  return dir;
}

std::string publish_checkpoint(const std::string& checkpoints_dir, const CheckpointInfo& info,
                               Retention retention) {
  const std::string name = step_name(info.progress.step);
  const std::string target = checkpoints_dir + "/" + name;
  const std::string from = writing_dir_of(checkpoints_dir, info.progress.step);
  writing(target, [&] {
    CheckpointManifest manifest = merge_parts(from, info);
    write_tokenizer(from, &manifest);
    publish_file(from + "/" + kCheckpointManifest, print_manifest(manifest));
    for (int rank = 0; rank < info.layout.ranks; ++rank) fs::remove(from + "/" + part_index_name(rank));
    sync_path(from);
    CheckpointReader(from).check_sizes();
    set_later_aside(checkpoints_dir, info.progress.step);
    rename_into_place(from, target);
    sync_path(checkpoints_dir);
    publish_file(checkpoints_dir + "/latest", name + "\n");
  });
  // The new one is whole, whatever becomes of the old ones.
  try {
    remove_old(checkpoints_dir, retention);
  } catch (const Error& error) {
    log_warn(cat("'", target, "' is written, but an old one stays: ", error.what()));
  }
  return target;
}

std::string write_checkpoint(const std::string& checkpoints_dir, const CheckpointInfo& info,
                             const std::vector<SliceBlock>& blocks, Retention retention) {
  write_part(prepare_checkpoint(checkpoints_dir, info.progress.step), 0, blocks);
  return publish_checkpoint(checkpoints_dir, info, retention);
}

}  // namespace fwl
