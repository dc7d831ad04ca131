// Verifies a whole data set: every checksum, every index, every count, the tokenizer, and what lies in the
// folder. It goes on after a problem, so that all are found in one run.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace fwl {

struct DataProblem {
  std::string file;     // relative to the data set
  std::string dataset;  // of the shard; empty: the file itself
  int64_t chunk = -1;   // number of the HDF5 chunk; -1: not known, or no matter of one
  int64_t offset = -1;  // first byte of that chunk in the file; without a chunk: the entry of the dataset
  std::string problem;
  bool is_unavailable = false;  // it could not be read: whether it is damaged is not known
};

struct DatasetCheck {
  std::vector<DataProblem> problems;
  std::vector<std::string> remarks;  // nothing wrong with the data, but worth knowing
  int64_t shards = 0, documents = 0, tokens = 0, bytes = 0;
  int64_t file_bytes = 0;
  double read_mb_per_s = 0;  // of the shards' files, before they are looked at
  std::string locking;       // what the file system says to the lock that HDF5 would take
};

// Reads all of `dir`. Throws only when there is no data set at all, or its manifest cannot be read; what is
// damaged, or cannot be read, is reported.
DatasetCheck check_dataset(const std::string& dir);

}  // namespace fwl
