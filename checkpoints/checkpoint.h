// A checkpoint: everything that training needs to go on as if it had never stopped. Format:
// checkpoints/FORMAT.md. Finding, reading and writing, for those that need all of it.
#pragma once

#include "checkpoints/folder.h"
#include "checkpoints/manifest.h"
#include "checkpoints/publish.h"
#include "checkpoints/reader.h"
