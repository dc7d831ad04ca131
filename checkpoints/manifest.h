// What a checkpoint's manifest says (checkpoints/FORMAT.md), in memory and as text. A checksum covers every
// byte of the text. Nothing in it is trusted: names are those of the format, numbers are bounded before
// anything is allocated by them.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "checkpoints/checksum.h"
#include "core/base/torch.h"

namespace fwl {

// Where a run stands, beside its tensors.
struct TrainingProgress {
  int64_t step = 0;         // optimizer steps taken or skipped: the next step's number
  int64_t tokens = 0;       // read so far, over all ranks
  int64_t samples = 0;      // data position: the next sample's number
  uint64_t order_hash = 0;  // rolling hash of the samples before it; kept as DataPosition::rolling_hash
  int64_t updates = 0;      // optimizer updates made (steps that were not skipped)
  int64_t skipped = 0;
  int64_t skipped_in_a_row = 0;
  // Sums since the last log line, so that a resumed run logs the same numbers.
  double loss_sum = 0;
  double slow_loss_sum = 0;
  double loss_tokens = 0;
};

// A point of the sample order, passed some steps ago, from which a resume reads the order again to check it.
struct OrderAnchor {
  int64_t sample = 0;         // number of the next sample there
  uint64_t rolling_hash = 0;  // of the samples before it
  // Where each stream of whole documents was there (data/document_order.h); empty for other orders.
  std::vector<int64_t> stream_dealt, stream_first_window;
};

// Which tokens were read, and which come next.
struct DataPosition {
  uint64_t sequence_hash = 0;  // identifies the sequence of samples
  uint64_t rolling_hash = 0;   // of all samples that were read, in order (data/FORMAT.md, Order)
  int64_t seed = 0;            // of the sample order
  int64_t streams = 0;         // of carried state; 0: none is carried
  int64_t stream_position = 0;
  // Per stream: place in the split of its next token, and the number of the document that holds it.
  std::vector<int64_t> stream_tokens, stream_documents;
  OrderAnchor anchor;
};

// Of the next step; stored for people and checks, since it follows from config and step.
struct LearningRateState {
  double next = 0;
  double peak = 0;
  int64_t warmup_steps = 0;
  int64_t steps = 0;
  double floor = 0;
};

// Of the ranks that wrote.
struct WriterLayout {
  int64_t ranks = 1, data = 1, sequence = 1;
  bool shard_optimizer = false;
  std::string device = "cpu";
};

struct CheckpointInfo {
  std::string path;  // the step's folder
  TrainingProgress progress;
  DataPosition data;
  LearningRateState learning_rate;
  WriterLayout layout;
  std::map<std::string, std::string> program;  // name -> version (software.h)
  std::string config_yaml;
  std::string tokenizer_kind;
  std::string tokenizer_bytes;  // empty for the byte tokenizer
  bool is_finite =
      false;  // weights and moments were found finite before it was published; not said by older ones
};

// A range of a tensor's elements (row-major) and the dataset that holds it.
struct SliceEntry {
  std::string file, dataset;
  int64_t first = 0, count = 0;
  uint32_t checksum = 0;  // of the elements' bytes
};

struct TensorEntry {
  at::ScalarType dtype = at::kFloat;
  std::vector<int64_t> shape;
  std::vector<SliceEntry> slices;  // in order of their first element
  int64_t elements() const;
};

struct CheckpointManifest {
  CheckpointInfo info;  // without path and tokenizer_bytes
  uint64_t tokenizer_hash = 0;
  std::map<std::string, TensorEntry> tensors;
  std::map<std::string, FileChecksum> files;  // all but the manifest
};

// Of one slice: bounds the time of one HDF5 call (the library's lock is held, and the loader may want it) and
// the memory of a read.
constexpr int64_t kMostSliceElements = int64_t{4} << 20;

constexpr const char* kCheckpointManifest = "manifest.json";
constexpr const char* kCheckpointTokenizer = "tokenizer.model";

// bfloat16, float32, float64, int64, uint8. Throws InternalError, DataError for other types.
std::string dtype_name(at::ScalarType dtype);
at::ScalarType parse_dtype_name(const std::string& name, const std::string& where);

std::string print_manifest(const CheckpointManifest& manifest);
// Throws DataError: no manifest, another version, a failing checksum, names that are no files of a
// checkpoint, absurd numbers, slices that do not cover a tensor exactly once or are larger than their file.
// `where` begins each message.
CheckpointManifest parse_manifest(const std::string& text, const std::string& where);

// What one rank wrote, for the rank that merges: printed and parsed like the manifest's parts.
struct PartIndex {
  std::string file;
  FileChecksum checksum;
  std::map<std::string, TensorEntry> tensors;
};
std::string print_part_index(const PartIndex& index);
PartIndex parse_part_index(const std::string& text, const std::string& where);

// Throws DataError unless the slices, in order, cover [0, elements) exactly once.
void check_coverage(const std::string& name, const TensorEntry& tensor, const std::string& where);

}  // namespace fwl
