/* The nine functions that the `tensorrt` Python bindings look up when they are imported.

   Built into libraries with the names of TensorRT's own, they let the bindings be imported on a
   machine without TensorRT, as the stub libcuda in the CUDA toolkit lets programs be linked on a
   machine without a driver. They create nothing: every factory returns NULL, so nothing here can
   be mistaken for an engine. Used only in the preview's own process. */

#include <stdbool.h>
#include <stdint.h>

void *createInferBuilder_INTERNAL(void *logger, int32_t version) { return 0; }
void *createInferRefitter_INTERNAL(void *engine, void *logger, int32_t version) { return 0; }
void *createInferRuntime_INTERNAL(void *logger, int32_t version) { return 0; }
void *createNvOnnxParser_INTERNAL(void *network, void *logger, int version) { return 0; }
void *createNvOnnxParserRefitter_INTERNAL(void *refitter, void *logger, int version) { return 0; }
void *getBuilderPluginRegistry(int32_t capability) { return 0; }
void *getPluginRegistry(void) { return 0; }
int getNvOnnxParserVersion(void) { return 0; }
bool initLibNvInferPlugins(void *logger, const char *name_space) { return true; }
