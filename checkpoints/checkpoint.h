// A checkpoint: everything that training needs to go on as if it had never stopped. Format:
// checkpoints/FORMAT.md.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/model/language_model.h"
#include "core/optim/adamw.h"

namespace fwl {

// Where a run stands, beside its tensors.
struct TrainingProgress {
  int64_t step = 0;         // optimizer steps taken or skipped: the next step's number
  int64_t tokens = 0;       // read so far, over all ranks
  int64_t samples = 0;      // data position: the next sample's number
  uint64_t order_hash = 0;  // rolling hash of the samples before it; 0: not kept
  int64_t updates = 0;      // optimizer updates made (steps that were not skipped)
  int64_t skipped = 0;
  int64_t skipped_in_a_row = 0;
  // Sums since the last log line, so that a resumed run logs the same numbers.
  double loss_sum = 0;
  double slow_loss_sum = 0;
  double loss_tokens = 0;
};

// What train.stream carries from step to step, over all streams; empty without it. Every tensor's first dim
// is the stream (float32 or float64, on the CPU).
struct CarriedStreams {
  int64_t position = 0;             // tokens that every stream has read
  std::vector<int64_t> next_token;  // per stream: position in the split of the next token
  std::vector<int64_t> document;    // per stream: number of the document that holds it
  std::vector<std::pair<std::string, Tensor>> tensors;
};

struct CheckpointInfo {
  std::string path;  // the step's folder
  TrainingProgress progress;
  std::string config_yaml;
  std::string tokenizer_kind;
  std::string tokenizer_bytes;  // empty for the byte tokenizer
};

// What a writer needs; tensors may live on any device.
struct CheckpointContent {
  const Parameters& parameters;
  const Tensor& first_moments;  // flat, like the parameters' values
  const Tensor& second_moments;
  TrainingProgress progress;
  std::string config_yaml;
  std::string tokenizer_kind;
  std::string tokenizer_bytes;
  CarriedStreams streams;
};

// Writes DIR/step-N beside and renames it into place; replaces `latest`; then removes all but the `keep`
// newest (0: keeps all). Returns the folder. Throws DataError; the checkpoints that were there stay whole.
std::string write_checkpoint(const std::string& checkpoints_dir, const CheckpointContent& content,
                             int64_t keep);

// Accepts a step's folder, a `checkpoints` folder or a run's folder (then the newest). Throws DataError when
// there is none.
std::string find_checkpoint(const std::string& path);
// Complete step folders in `checkpoints_dir`, newest first; empty when the folder does not exist.
std::vector<std::string> list_checkpoints(const std::string& checkpoints_dir);

// Reads the manifest and the tokenizer. Throws DataError naming the file and what is wrong.
CheckpointInfo read_checkpoint_info(const std::string& step_dir);
// Reads the tensors into `parameters` and, when given, the flat moments. Verifies checksums, names, shapes
// and types before anything is changed. Throws DataError.
void read_checkpoint_tensors(const std::string& step_dir, Parameters& parameters, Tensor* first_moments,
                             Tensor* second_moments);

// What the checkpoint's streams carry; empty when it was written without train.stream. Throws DataError.
CarriedStreams read_checkpoint_streams(const std::string& step_dir);

}  // namespace fwl
