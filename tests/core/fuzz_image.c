/* fuzz_image.c: libFuzzer gives bytes, we read them as an image: once as they are, once with every checksum made right,
 * so that what lies behind the checksums is reached too. An input that is too short to be an image says what to change
 * in a sound one: so inputs stay short, though images are not. Preset fuzz; needs clang. */
#include "image_bytes.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t byte_count);

enum { SOUND_IMAGES = 6, PATCHES_MOST = 40 };

static void try_sealed(const uint8_t *bytes, size_t byte_count)
{
    bool sound;
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
}

/* Sound images: empty, hash, hash with chains, direct, direct with holes, bools. */
static uint8_t *sound_image(int which, size_t *byte_count_out)
{
    static const uint64_t counts[SOUND_IMAGES] = {0, 20, 90, 40, 60, 30};
    iam_options options = {.row_items = 1 + (uint64_t)which % 3,
                           .kind = which == 5 ? IAM_BOOL : IAM_INT64,
                           .index = which == 3 || which == 4 ? IAM_INDEX_DIRECT : IAM_INDEX_HASH,
                           .seed = 9};
    const iam_about about = {.axis_count = 1, .axes = {options.row_items}};
    iam_map *map = NULL;
    iam_save *save = NULL;
    bool ready = false;
    EXPECT(iam_map_create(&options, &map) == IAM_OK);
    const uint8_t row[3 * sizeof(int64_t)] = {1};
    for (uint64_t i = 0; i < counts[which]; i++)
        EXPECT(iam_map_put(map, which == 4 ? (int64_t)(i * i) - 500 : (int64_t)i, row) == IAM_OK);
    EXPECT(iam_save_begin(map, 777, &about, &save) == IAM_OK);
    while (!ready)
        EXPECT(iam_save_prepare(save, &ready) == IAM_OK);
    size_t total = iam_save_bytes(save), done = 0;
    uint8_t *image = malloc(total + IAM_SAVE_ROOM_LEAST);
    for (size_t more; (more = iam_save_next(save, image + done, IAM_SAVE_ROOM_LEAST)) != 0;)
        done += more;
    EXPECT(done == total);
    iam_save_end(save);
    iam_map_destroy(map);
    *byte_count_out = total;
    return image;
}

/* The first byte says which image. Then each five bytes change up to eight of it: the section (or the header), where in
 * it, how many, and two to write. */
static void try_changed(const uint8_t *bytes, size_t byte_count)
{
    bool sound;
    size_t total;
    uint8_t *image = sound_image(bytes[0] % SOUND_IMAGES, &total);
    image_header header;
    memcpy(&header, image, sizeof header);
    const uint8_t *at = bytes + 1, *end = bytes + byte_count;
    for (int patch = 0; end - at >= 5 && patch < PATCHES_MOST; patch++, at += 5) {
        unsigned part = at[0] % 16;
        uint64_t place = at[1] | (uint64_t)(at[0] >> 4) << 8, count = at[2] % 8 + 1;
        if (part >= 8)
            place = part < 12 ? place % sizeof header : place % 160; /* where the header has anything */
        else
            place += header.sections[part].offset;
        for (uint64_t i = 0; i < count && place + i < total; i++)
            image[place + i] = i < 2 ? at[3 + i] : at[2] & 128 ? at[4] : image[place + i];
    }
    image_try(image, total, &sound);
    try_sealed(image, total);
    free(image);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t byte_count)
{
    bool sound;
    if (byte_count == 0)
        return 0;
    image_try(bytes, byte_count, &sound);
    if (byte_count < IMAGE_HEADER_BYTES)
        try_changed(bytes, byte_count);
    else if (byte_count <= 1 << 20)
        try_sealed(bytes, byte_count);
    return 0;
}
