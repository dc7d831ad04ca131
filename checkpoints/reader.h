// Reads any range of any tensor of a checkpoint, whoever wrote it and in whatever layout. Each slice that is
// touched is checked against its checksum before its elements are used. Where DataError is thrown, the
// checkpoint is damaged or not whole; UnavailableError says that it cannot be read now, or not by this user.
#pragma once

#include <map>
#include <string>

#include "checkpoints/folder.h"
#include "checkpoints/manifest.h"
#include "checkpoints/part.h"
#include "core/base/hdf5.h"
#include "core/model/parameters.h"

namespace fwl {

class CheckpointReader {
 public:
  // Reads and checks the manifest and the tokenizer of a step's folder. Throws DataError.
  explicit CheckpointReader(const std::string& step_dir);

  const CheckpointInfo& info() const { return manifest_.info; }
  const CheckpointManifest& manifest() const { return manifest_; }
  const std::string& path() const { return manifest_.info.path; }

  bool has(const std::string& tensor) const { return manifest_.tensors.count(tensor) > 0; }
  // Throws DataError for an unknown tensor.
  const TensorEntry& entry(const std::string& tensor) const;
  // Elements [first, first + out.numel()) of the tensor, row-major, into `out`: 1-D, contiguous, of the
  // tensor's dtype, on any device. Throws DataError; `out` may then hold part of them.
  void read(const std::string& tensor, int64_t first, Tensor out);

  // Every file exists and has its size. Throws DataError.
  void check_sizes() const;
  // Every byte of every file against its checksum: of the `index`-th of `parts` shares of the files. Throws
  // DataError.
  void check_files(int index = 0, int parts = 1) const;
  // Every slice against its checksum. Throws DataError. Returns the names of tensors that is_sound() is not
  // true of.
  std::vector<std::string> check_slices();

 private:
  Tensor read_slice(const TensorEntry& tensor, const SliceEntry& slice);
  const Hdf5File& file(const std::string& name);

  CheckpointManifest manifest_;
  std::map<std::string, Hdf5File> files_;  // open as far as the process' budget goes (core/base/open_files.h)
};

// Elements `ranges` of all parameters laid end to end, one range after the other, into `out` (as flat_block
// wrote them): 1-D. Throws DataError when a parameter is missing or has another shape or dtype.
void read_flat(CheckpointReader& reader, const std::string& kind, const Parameters& parameters,
               const std::vector<ElementRange>& ranges, const Tensor& out);
// Throws DataError unless the checkpoint's weights are exactly those parameters: names, shapes, dtypes.
void check_fits(const CheckpointReader& reader, const Parameters& parameters);

// The manifest and the tokenizer alone. Throws DataError naming the file and what is wrong.
CheckpointInfo read_checkpoint_info(const std::string& step_dir);
// All weights and, where given, the flat moments of a checkpoint. Throws DataError; then the tensors may hold
// a mixture.
void read_checkpoint_tensors(const std::string& step_dir, Parameters& parameters,
                             Tensor* first_moments = nullptr, Tensor* second_moments = nullptr);

}  // namespace fwl
