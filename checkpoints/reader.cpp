#include "checkpoints/reader.h"

#include <algorithm>
#include <filesystem>

#include "checkpoints/elements.h"
#include "checkpoints/finite.h"
#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/hash.h"
#include "core/base/system_error.h"

namespace fwl {
namespace {

namespace fs = std::filesystem;

// Runs `read` on a file of the checkpoint. One that is not there makes the checkpoint incomplete, which is
// damage; whatever else the system refuses says nothing about the content.
template <typename Read>
auto read_own(const std::string& path, Read read) {
  try {
    return read();
  } catch (const SystemError& error) {
    if (!error.is_missing()) throw;
    throw DataError(cat("'", path, "' is missing (the checkpoint is not whole). Use another checkpoint."));
  }
}

// Where the file of that name lies. Links to elsewhere are not followed: what a checkpoint's checksums prove
// is that nothing was damaged, not who wrote it.
std::string path_in(const std::string& step_dir, const std::string& name) {
  require<DataError>(
      !leads_outside(step_dir, name), step_dir, "/", name,
      " is a link that leads out of the checkpoint (it may be changed without notice). Copy the "
      "file into the checkpoint.");
  return step_dir + "/" + name;
}

std::string read_tokenizer(const std::string& step_dir, const CheckpointManifest& manifest) {
  if (manifest.info.tokenizer_kind == "byte") return {};
  const std::string path = path_in(step_dir, kCheckpointTokenizer);
  std::string bytes = read_own(path, [&] { return read_file(path, "the checkpoint's tokenizer"); });
  require<DataError>(hash_bytes(bytes) == manifest.tokenizer_hash, path,
                     ": its hash is not the manifest's (the tokenizer is damaged). Use another checkpoint.");
  return bytes;
}

void refuse_version_1(const std::string& step_dir) {
  std::error_code unknown;
  require<DataError>(
      !fs::exists(step_dir + "/state.h5", unknown), step_dir,
      ": a checkpoint of format version 1 (state.h5), which this fwl does not read. Use the fwl that "
      "wrote it, or train afresh.");
}

void check_size(const std::string& path, const FileChecksum& expected) {
  std::error_code error;
  const auto bytes = fs::file_size(path, error);
  if (error) throw SystemError(error.value(), cat("'", path, "' cannot be looked at"));
  require<DataError>(static_cast<int64_t>(bytes) == expected.bytes, path, ": has ", bytes, " bytes, not ",
                     expected.bytes,
                     " (the file is cut off or not the one that was written). Use another checkpoint.");
}

}  // namespace

CheckpointReader::CheckpointReader(const std::string& step_dir) {
  refuse_version_1(step_dir);
  const std::string path = step_dir + "/" + kCheckpointManifest;
  manifest_ = parse_manifest(read_own(path, [&] { return read_file(path, "checkpoint manifest"); }), path);
  manifest_.info.path = step_dir;
  manifest_.info.tokenizer_bytes = read_tokenizer(step_dir, manifest_);
}

const TensorEntry& CheckpointReader::entry(const std::string& tensor) const {
  const auto found = manifest_.tensors.find(tensor);
  require<DataError>(
      found != manifest_.tensors.end(), path(), ": tensor '", tensor,
      "' is missing (the checkpoint belongs to another model). Use the config that it was written with.");
  return found->second;
}

const Hdf5File& CheckpointReader::file(const std::string& name) {
  auto found = files_.find(name);
  if (found == files_.end()) {
    const std::string file = path_in(path(), name);
    found =
        files_.emplace(name, read_own(file, [&] { return Hdf5File::open(file, "checkpoint part"); })).first;
  }
  return found->second;
}

Tensor CheckpointReader::read_slice(const TensorEntry& tensor, const SliceEntry& slice) {
  const Hdf5File& from = file(slice.file);
  Tensor elements = read_elements(from, slice.dataset, tensor.dtype, slice.count);
  require<DataError>(
      checksum_of(elements.const_data_ptr(), static_cast<int64_t>(elements.nbytes())) == slice.checksum,
      from.path(), ": dataset '", slice.dataset,
      "' does not fit its checksum (it is damaged). Use another checkpoint.");
  return elements;
}

void CheckpointReader::read(const std::string& tensor, int64_t first, Tensor out) {
  const TensorEntry& from = entry(tensor);
  const int64_t end = first + out.numel();
  require<DataError>(out.scalar_type() == from.dtype, path(), ": '", tensor, "' is ", dtype_name(from.dtype),
                     ", wanted is ", dtype_name(out.scalar_type()),
                     ". Use the train.dtype that it was written with.");
  require<DataError>(first >= 0 && end <= from.elements(), path(), ": '", tensor, "' has ", from.elements(),
                     " elements, wanted are ", first, " to ", end,
                     ". Use the config that it was written with.");
  const at::NoGradGuard no_grad;
  for (const SliceEntry& slice : from.slices) {
    const int64_t begin_here = std::max(first, slice.first);
    const int64_t end_here = std::min(end, slice.first + slice.count);
    if (begin_here >= end_here) continue;
    out.narrow(0, begin_here - first, end_here - begin_here)
        .copy_(read_slice(from, slice).narrow(0, begin_here - slice.first, end_here - begin_here));
  }
}

void CheckpointReader::check_sizes() const {
  for (const auto& [name, expected] : manifest_.files) {
    const std::string file = path_in(path(), name);
    read_own(file, [&] { check_size(file, expected); });
  }
}

void CheckpointReader::check_files(int index, int parts) const {
  int number = 0;
  for (const auto& [name, expected] : manifest_.files) {
    if (number++ % parts != index) continue;
    const std::string file = path_in(path(), name);
    read_own(file, [&] { check_size(file, expected); });
    require<DataError>(checksum_of_file(file) == expected, file,
                       ": does not fit its checksum (it is damaged). Use another checkpoint.");
  }
}

std::vector<std::string> CheckpointReader::check_slices() {
  std::vector<std::string> unsound;
  for (const auto& [name, tensor] : manifest_.tensors) {
    bool sound = true;
    for (const SliceEntry& slice : tensor.slices) sound = is_sound(name, read_slice(tensor, slice)) && sound;
    if (!sound) unsound.push_back(name);
  }
  return unsound;
}

void read_flat(CheckpointReader& reader, const std::string& kind, const Parameters& parameters,
               const std::vector<ElementRange>& ranges, const Tensor& out) {
  for (const SlicePlace& place : flat_block(kind, parameters, ranges, out).slices) {
    const TensorEntry& entry = reader.entry(place.tensor);
    require<DataError>(entry.shape == place.shape, reader.path(), ": '", place.tensor, "' has shape ",
                       at::IntArrayRef(entry.shape), ", the model wants ", at::IntArrayRef(place.shape),
                       ". Use the config that it was written with.");
    reader.read(place.tensor, place.first, out.narrow(0, place.offset, place.count));
  }
}

void check_fits(const CheckpointReader& reader, const Parameters& parameters) {
  const std::string prefix = "weights/";
  for (const auto& [name, entry] : reader.manifest().tensors) {
    if (name.rfind(prefix, 0) != 0) continue;
    require<DataError>(parameters.has(name.substr(prefix.size())), reader.path(), ": tensor '", name,
                       "' is not of this model. Use the config that it was written with.");
  }
  for (const Parameter& p : parameters.all()) {
    const TensorEntry& entry = reader.entry(prefix + p.name);
    require<DataError>(
        at::IntArrayRef(entry.shape) == p.gradient.sizes() && entry.dtype == p.gradient.scalar_type(),
        reader.path(), ": '", p.name, "' is ", at::IntArrayRef(entry.shape), " of ", dtype_name(entry.dtype),
        ", the model wants ", p.gradient.sizes(), " of ", dtype_name(p.gradient.scalar_type()),
        ". Use the config that it was written with.");
  }
}

CheckpointInfo read_checkpoint_info(const std::string& step_dir) {
  return CheckpointReader(step_dir).info();
}

void read_checkpoint_tensors(const std::string& step_dir, Parameters& parameters, Tensor* first_moments,
                             Tensor* second_moments) {
  CheckpointReader reader(step_dir);
  check_fits(reader, parameters);
  reader.check_sizes();
  const std::vector<ElementRange> all = {{0, parameters.count()}};
  read_flat(reader, "weights", parameters, all, parameters.values());
  if (first_moments != nullptr) read_flat(reader, "first_moments", parameters, all, *first_moments);
  if (second_moments != nullptr) read_flat(reader, "second_moments", parameters, all, *second_moments);
}

}  // namespace fwl
