/* fuzz_image.c: libFuzzer gives bytes, we read them as an image: once as they are, once with every checksum made right,
 * so that what lies behind the checksums is reached too. Preset fuzz; needs clang. */
#include "image_bytes.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t byte_count);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t byte_count)
{
    bool sound;
    if (byte_count == 0)
        return 0;
    image_try(bytes, byte_count, &sound);
    if (byte_count < IMAGE_HEADER_BYTES || byte_count > 1 << 20)
        return 0;
    /* A header that lays its sections out as its counts say, for a file of this size. */
    iam_mapping sealed = image_copy(bytes, byte_count);
    image_header *header = sealed.bytes;
    memcpy(header->magic, image_magic, sizeof image_magic);
    header->version = IMAGE_VERSION;
    header->byte_order = IMAGE_BYTE_ORDER;
    memset(header->zeros, 0, sizeof header->zeros);
    if (header->row_count < 1 << 20 && header->row_bytes < 1 << 20 && header->bucket_count < 1 << 20 &&
        header->overflow_count < 1 << 20 && header->page_span < 1 << 20 && header->page_count < 1 << 20) {
        image_lay_out(header);
        if (header->file_bytes == byte_count)
            image_seal(sealed.bytes);
    }
    header->checksum = image_header_checksum(header);
    image_try(sealed.bytes, byte_count, &sound);
    free(sealed.bytes);
    return 0;
}
