// From sources to a published data set: documents are read in order, tokenized on all threads, and written in
// order; what a killed or failed build has published is kept and not made again.
//
// The sorted files are cut into groups, which ranks take in turn; each group has shards and a journal of its
// own. The data set depends on the sources and the options that its fingerprint holds, not on
// threads, ranks or interruptions. A group whose files have changed since keeps the shards whose documents
// are the same, as a hash of names and texts in the journal tells: a repaired source costs what follows the
// repair. A data set that is replaced stays as it is until the new one, built beside it, is whole. Memory:
// pieces in flight and the index of the open shards.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "data/dataset_folder.h"
#include "data/document_reader.h"
#include "data/format.h"
#include "data/splitting.h"
#include "data/tokenizer.h"

namespace fwl {

struct BuildProgress {
  int64_t source_bytes = 0, source_total = 0;  // as stored, of this rank's groups; total 0: not known
  int64_t text_bytes = 0;                      // tokenized in this run, by this rank
};

struct BuildOptions {
  std::string out;
  std::vector<SplitRange> ranges;
  DocumentFormat format;
  Compression compression = Compression::kDeflate;
  int64_t shard_tokens = 100'000'000;
  int threads = 1;
  int64_t bytes_in_flight = 0;  // text that is read before it is written; 0: 4 MiB per thread
  int64_t group_bytes = 0;      // 0: 16 for each token of a shard
  ExistingDataset existing = ExistingDataset::kRefuse;
  int rank = 0, ranks = 1;
  std::function<void()> barrier = [] {};                           // collective over the ranks
  std::function<bool(bool)> any = [](bool mine) { return mine; };  // likewise: whether it holds on one
  // Likewise: rank 0's text.
  std::function<std::string(const std::string&)> from_first = [](const std::string& mine) { return mine; };
  std::function<void(const BuildProgress&)> on_progress = [](const BuildProgress&) {};
};

struct BuildResult {
  Manifest manifest;
  BuildProgress progress;
  int64_t shards_kept = 0;  // by this rank, of an earlier, killed build
  // On rank 0, of all ranks: what was read, and which lines were passed over.
  int64_t text_files = 0, json_files = 0;
  SkippedLines skipped_lines;
};

// Collective over the ranks, which all have rank 0's list of `files` (each looks whether it sees the ones
// that it will read as they were listed). Goes on with an unfinished data set in `options.out` whose
// fingerprint is the same; another folder that is not empty is treated as prepare_dataset_folder() does. The
// manifest is published last, by rank 0. Throws ConfigError, DataError (damaged source, disk full),
// UnavailableError (a source that cannot be read, or that this rank does not see); what is published by then
// stays for the next try.
BuildResult build_dataset(const std::vector<DocumentFile>& files, const Tokenizer& tokenizer,
                          const BuildOptions& options);

}  // namespace fwl
