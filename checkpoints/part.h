// One rank's part of a checkpoint: which elements of which tensors it owns, and the file that holds them.
#pragma once

#include <string>
#include <vector>

#include "checkpoints/manifest.h"
#include "core/base/range.h"
#include "core/model/parameters.h"

namespace fwl {

// Elements [first, first + count) of a tensor, at `offset` in a block.
struct SlicePlace {
  std::string tensor;
  std::vector<int64_t> shape;  // of the whole tensor
  int64_t first = 0, count = 0, offset = 0;
};
// Elements that lie together in memory, and what they are. `elements` is 1-D and contiguous, on any device;
// one block is one copy to the host.
struct SliceBlock {
  Tensor elements;
  std::vector<SlicePlace> slices;
};

// `owned` holds elements `ranges`, one after the other, of the flat tensor in which all parameters lie end to
// end; `kind` is weights, first_moments or second_moments.
SliceBlock flat_block(const std::string& kind, const Parameters& parameters,
                      const std::vector<ElementRange>& ranges, const Tensor& owned);
// `rows` are rows [first_row, first_row + rows.size(0)) of a tensor of `total_rows` rows.
SliceBlock row_block(const std::string& name, const Tensor& rows, int64_t first_row, int64_t total_rows);

std::string part_name(int rank);        // "rank-00003.h5"
std::string part_index_name(int rank);  // "rank-00003.json"

// Writes this rank's file and its index into the folder, synced; reads the file back and compares checksums.
// Blocks lie in host memory. May run in a thread of its own. Throws DataError.
void write_part(const std::string& writing_dir, int rank, const std::vector<SliceBlock>& blocks);

}  // namespace fwl
