/* The spec parser and option parser, on any text; devices are opened only where that is harmless.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "blk/core.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* All levels of the spec, options applied, nothing opened. */
static void parse_levels(const char *text)
{
    struct blk_spec spec;
    struct blk_error err;
    if (blk_spec_parse(text, &spec, &err) < 0)
        return;
    void *priv = calloc(1, spec.driver->priv_size + 1);
    if (blk_options_apply(&spec, priv, &err) == 0 && spec.inner)
        parse_levels(spec.inner);
    free(priv);
    base_free(spec.text);
}

/* Neither files nor sockets. */
static int harmless(const char *text)
{
    return !strstr(text, "file") && !strstr(text, "psync") && !strstr(text, "nbd") &&
           !strstr(text, "log"); /* which opens another spec, with %XX in it */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);
    struct blk *dev;
    struct blk_error err;
    memcpy(text, data, size);
    text[size] = '\0';
    parse_levels(text);
    if (harmless(text) && blk_open(text, 0, &dev, &err) == 0)
        blk_close(dev);
    free(text);
    return 0;
}
