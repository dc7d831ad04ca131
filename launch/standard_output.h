// What commands print for others to read. A pipe whose reader has gone is no failure: the reader has seen
// enough, and nothing is said of it. Any other text that cannot be written (a full disk, no stdout) is lost,
// and the command must not end as if all were well.
#pragma once

namespace fwl {

// Call it first in main(). From here on a closed pipe kills nobody, and no file that is opened later takes
// the place of a stdin, stdout or stderr that the caller has closed.
void prepare_standard_streams();

// Writes what is still held back. Throws UnavailableError when something printed was lost.
void finish_stdout();

// Ends a command whose only product was for a reader who has gone.
struct ReaderGone {};
// Throws ReaderGone when stdout is a pipe, or a connection, that nobody reads any more.
void require_reader();

}  // namespace fwl
