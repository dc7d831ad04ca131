// How far a group of sources has been tokenized: a JSON file beside the shards, published after every shard,
// that goes when the data set is whole. A killed build goes on from it, and one whose sources were repaired
// keeps the shards whose documents are still the same.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/document_reader.h"
#include "data/format.h"

namespace fwl {

// Documents are numbered within the group.
struct GroupState {
  static constexpr uint64_t kNoDocuments = 0;
  // After a shard that its documents filled: those of the group before this number, and the hash of the
  // split's.
  struct End {
    int64_t documents = 0;
    uint64_t hash = kNoDocuments;
  };

  // Of a group that was not begun.
  explicit GroupState(size_t splits) : published(splits), ends(splits) {}

  bool done = false;
  std::string stamp;  // of the group's files
  int64_t text_files = 0, json_files = 0;
  SkippedLines skipped_lines;
  std::vector<SplitEntry> published;   // per split
  std::vector<std::vector<End>> ends;  // per split, of its shards but the last, which the group's end may cut

  size_t shards() const;
  int64_t documents_published(size_t split) const;
  uint64_t hash(size_t split) const;
};

// What the journal says; a group that was not begun where it is missing or damaged. `splits`: their names, in
// the order of GroupState. Throws UnavailableError when it is there and cannot be read now.
GroupState read_group_journal(const std::string& path, const std::vector<std::string>& splits);
void write_group_journal(const std::string& path, const std::vector<std::string>& splits,
                         const GroupState& state);

}  // namespace fwl
