#include "checkpoints/part.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "checkpoints/elements.h"
#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/hdf5.h"

namespace fwl {
namespace {

std::string rank_name(int rank, const char* extension) {
  char name[32];
  std::snprintf(name, sizeof name, "rank-%05d.%s", rank, extension);
  return name;
}

void add_slices(SliceBlock* block, const std::string& tensor, const std::vector<int64_t>& shape,
                int64_t first, int64_t count, int64_t offset) {
  for (int64_t done = 0; done < count; done += kMostSliceElements)
    block->slices.push_back(
        {tensor, shape, first + done, std::min(kMostSliceElements, count - done), offset + done});
}

uint32_t checksum_of_elements(const Tensor& elements) {
  return checksum_of(elements.const_data_ptr(), static_cast<int64_t>(elements.nbytes()));
}

// So that reading back asks the disk, not the memory that was just written.
void drop_from_page_cache(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return;
  ::posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
  ::close(fd);
}

std::map<std::string, TensorEntry> write_slices(Hdf5File& file, const std::string& name,
                                                const std::vector<SliceBlock>& blocks) {
  std::map<std::string, TensorEntry> tensors;
  for (const SliceBlock& block : blocks) {
    for (const SlicePlace& place : block.slices) {
      const Tensor elements = block.elements.narrow(0, place.offset, place.count);
      const std::string dataset = cat(place.tensor, "@", place.first);
      write_elements(file, dataset, elements);
      TensorEntry& tensor = tensors[place.tensor];
      tensor.dtype = elements.scalar_type();
      tensor.shape = place.shape;
      tensor.slices.push_back({name, dataset, place.first, place.count, checksum_of_elements(elements)});
    }
  }
  return tensors;
}

void verify_slices(const std::string& path, const std::map<std::string, TensorEntry>& tensors) {
  const Hdf5File file = Hdf5File::open(path, "checkpoint part");
  for (const auto& [name, tensor] : tensors) {
    for (const SliceEntry& slice : tensor.slices)
      require<DataError>(
          checksum_of_elements(read_elements(file, slice.dataset, tensor.dtype, slice.count)) ==
              slice.checksum,
          path, ": '", slice.dataset, "' reads back other than it was written. Check the disk.");
  }
}

}  // namespace

SliceBlock flat_block(const std::string& kind, const Parameters& parameters,
                      const std::vector<ElementRange>& ranges, const Tensor& owned) {
  SliceBlock block{owned, {}};
  int64_t offset = 0;
  for (const ElementRange& range : ranges) {
    for (const Parameter& p : parameters.all()) {
      const int64_t begin = std::max(range.first, p.offset);
      const int64_t end = std::min(range.first + range.count, p.offset + p.gradient.numel());
      if (begin < end)
        add_slices(&block, kind + "/" + p.name, p.gradient.sizes().vec(), begin - p.offset, end - begin,
                   offset + begin - range.first);
    }
    offset += range.count;
  }
  require<InternalError>(owned.dim() == 1 && owned.numel() == offset, "flat_block: ", owned.numel(),
                         " elements for ranges of ", offset);
  return block;
}

SliceBlock row_block(const std::string& name, const Tensor& rows, int64_t first_row, int64_t total_rows) {
  SliceBlock block{rows.contiguous().view({-1}), {}};
  std::vector<int64_t> shape = rows.sizes().vec();
  shape.at(0) = total_rows;
  const int64_t row_elements = rows.size(0) > 0 ? rows.numel() / rows.size(0) : 0;
  add_slices(&block, name, shape, first_row * row_elements, rows.numel(), 0);
  return block;
}

std::string part_name(int rank) {
  return rank_name(rank, "h5");
}
std::string part_index_name(int rank) {
  return rank_name(rank, "json");
}

void write_part(const std::string& writing_dir, int rank, const std::vector<SliceBlock>& blocks) {
  const std::string path = writing_dir + "/" + part_name(rank);
  PartIndex index;
  index.file = part_name(rank);
  {
    Hdf5File file = Hdf5File::create(path);
    file.set_attribute("format", std::string("fwl-checkpoint"));
    index.tensors = write_slices(file, index.file, blocks);
    file.close();
  }
  drop_from_page_cache(path);
  index.checksum = checksum_of_file(path);
  verify_slices(path, index.tensors);
  publish_file(writing_dir + "/" + part_index_name(rank), print_part_index(index));
}

}  // namespace fwl
