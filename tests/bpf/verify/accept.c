/*
 * Programs for computational devices, as people write them: the verifier takes all of them,
 * whatever instructions clang makes of them (tests/integration/bpf_verify.sh).
 */
typedef unsigned long uint64_t;
typedef long int64_t;
typedef unsigned int uint32_t;
typedef int int32_t;
typedef unsigned short uint16_t;
typedef unsigned char uint8_t;

static void (*bpf_return_data)(void *data, uint64_t size) = (void *)1;
static int (*bpf_read)(uint64_t zone, uint64_t sector, uint64_t offset, uint64_t size,
                       void *data) = (void *)2;
static int (*bpf_write)(uint64_t zone, uint64_t *sector, uint64_t offset, uint64_t size,
                        void *data) = (void *)3;
static uint64_t (*bpf_get_sector_size)(void) = (void *)4;
static uint64_t (*bpf_get_zone_capacity)(void) = (void *)5;
static uint64_t (*bpf_get_zone_size)(void) = (void *)6;
static void (*bpf_get_mem_info)(void **mem_ptr, uint64_t *mem_size) = (void *)7;
static void (*bpf_get_call_info)(void **call) = (void *)8;
static void (*bpf_debug)(const char *) = (void *)9;
static int64_t (*csd_next)(const void **data, uint64_t max) = (void *)10;

int filter(void)
{
    void *mem;
    uint64_t size;
    bpf_get_mem_info(&mem, &size);
    uint64_t ss = bpf_get_sector_size();
    uint64_t cap = bpf_get_zone_capacity();
    uint64_t per = ss / sizeof(int);
    int *buf = mem;
    uint64_t count = 0;
    if (size < ss)
        return 1;
    for (uint64_t i = 0; i < cap; i++) {
        bpf_read(0, i, 0, ss, buf);
        for (uint64_t j = 0; j < per; j++)
            if (buf[j] > 1000)
                count++;
    }
    bpf_return_data(&count, 8);
    return 0;
}
int newlines(void)
{
    const void *p;
    int64_t n;
    uint64_t count = 0;
    while ((n = csd_next(&p, 65536)) > 0) {
        const uint8_t *b = p;
        for (int64_t i = 0; i < n; i++)
            if (b[i] == '\n')
                count++;
    }
    bpf_return_data(&count, 8);
    return 0;
}
int filter_chunks(void)
{
    const void *p;
    int64_t n;
    uint64_t count = 0;
    while ((n = csd_next(&p, 65536)) > 0) {
        const int *b = p;
        uint64_t m = n / 4;
        for (uint64_t i = 0; i < m; i++)
            if (b[i] > 1000)
                count++;
    }
    bpf_return_data(&count, 8);
    return 0;
}
uint64_t bins[256];
int histogram(void)
{
    const void *p;
    int64_t n;
    while ((n = csd_next(&p, 65536)) > 0) {
        const uint8_t *b = p;
        for (int i = 0; i < n; i++)
            bins[b[i]]++;
    }
    bpf_return_data(bins, sizeof bins);
    return 0;
}
uint32_t table[256];
int crc(void)
{
    const void *p;
    int64_t n;
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t c = i;
        for (int k = 0; k < 8; k++)
            c = c & 1 ? 0x82f63b78 ^ (c >> 1) : c >> 1;
        table[i] = c;
    }
    uint32_t c = ~0u;
    while ((n = csd_next(&p, 65536)) > 0) {
        const uint8_t *b = p, *e = b + n;
        while (b < e)
            c = table[(c ^ *b++) & 255] ^ (c >> 8);
    }
    c = ~c;
    bpf_return_data(&c, 4);
    return 0;
}
int64_t top[16];
int topk(void)
{
    const void *p;
    int64_t n;
    unsigned have = 0;
    while ((n = csd_next(&p, 65536)) > 0) {
        const int64_t *b = p;
        for (uint64_t i = 0; i < (uint64_t)n / 8; i++) {
            int64_t v = b[i];
            unsigned at;
            if (have < 16)
                at = have++;
            else if (v > top[15])
                at = 15;
            else
                continue;
            while (at > 0 && top[at - 1] < v) {
                top[at] = top[at - 1];
                at--;
            }
            top[at] = v;
        }
    }
    bpf_return_data(top, sizeof top);
    return 0;
}
int csv_sum(void)
{
    const void *p;
    int64_t n;
    int field = 0;
    int64_t sum = 0, val = 0;
    int neg = 0;
    while ((n = csd_next(&p, 65536)) > 0) {
        const char *b = p;
        for (int64_t i = 0; i < n; i++) {
            char ch = b[i];
            if (ch == ',') {
                field++;
            } else if (ch == '\n') {
                if (field >= 2)
                    sum += neg ? -val : val;
                field = 0;
                val = 0;
                neg = 0;
            } else if (field == 2) {
                if (ch == '-')
                    neg = 1;
                else if (ch >= '0' && ch <= '9')
                    val = val * 10 + (ch - '0');
            }
        }
    }
    bpf_return_data(&sum, 8);
    return 0;
}
int search(void)
{
    const char needle[] = "hello";
    const void *p;
    int64_t n;
    uint64_t count = 0;
    while ((n = csd_next(&p, 65536)) > 0) {
        const char *b = p;
        for (int64_t i = 0; i + 5 <= n; i++) {
            int k;
            for (k = 0; k < 5; k++)
                if (b[i + k] != needle[k])
                    break;
            if (k == 5)
                count++;
        }
    }
    bpf_return_data(&count, 8);
    return 0;
}
/* A loop over the sectors of a zone, in the manner of older devices. */
int filter_style(void)
{
    uint64_t zone_capacity = bpf_get_zone_capacity();
    uint64_t sector_size = bpf_get_sector_size();
    uint64_t ints_per_sector = sector_size / sizeof(int32_t);
    int32_t *buffer;
    uint64_t buffer_size;
    bpf_get_mem_info((void **)&buffer, &buffer_size);
    if (buffer_size < sector_size)
        return -1;
    uint64_t count = 0;
    for (uint64_t i = 0; i < zone_capacity; i++) {
        bpf_read(0, i, 0, sector_size, buffer);
        for (uint64_t j = 0; j < ints_per_sector; j++)
            if (buffer[j] > 100000)
                count++;
    }
    bpf_return_data(&count, sizeof count);
    return 0;
}
/* int counters */
int filter_int(void)
{
    int cap = bpf_get_zone_capacity();
    int ss = bpf_get_sector_size();
    void *mem;
    uint64_t size;
    bpf_get_mem_info(&mem, &size);
    int *buf = mem;
    int count = 0;
    for (int i = 0; i < cap; i++) {
        bpf_read(0, i, 0, ss, buf);
        for (int j = 0; j < (ss >> 2); j++)
            if (buf[j] > 5)
                count++;
    }
    bpf_return_data(&count, 4);
    return 0;
}
/* entropy bins in memory */
int entropy(void)
{
    const void *p;
    int64_t n;
    uint64_t *bins;
    uint64_t size;
    bpf_get_mem_info((void **)&bins, &size);
    for (int i = 0; i < 256; i++)
        bins[i] = 0;
    while ((n = csd_next(&p, 131072)) > 0)
        for (int64_t i = 0; i < n; i++)
            bins[((const uint8_t *)p)[i]]++;
    bpf_return_data(bins, 2048);
    return 0;
}
/* stack array of bins */
int stackbins(void)
{
    uint16_t bins[16];
    const void *p;
    int64_t n;
    for (int i = 0; i < 16; i++)
        bins[i] = 0;
    while ((n = csd_next(&p, 4096)) > 0)
        for (int64_t i = 0; i < n; i++)
            bins[((const uint8_t *)p)[i] & 15]++;
    bpf_return_data(bins, sizeof bins);
    return 0;
}
/* min max avg */
int minmax(void)
{
    const void *p;
    int64_t n;
    int64_t mn = 0x7fffffff, mx = -0x7fffffff - 1, sum = 0, cnt = 0;
    while ((n = csd_next(&p, 65536)) > 0) {
        const int32_t *b = p;
        for (int64_t i = 0; i < (n >> 2); i++) {
            int32_t v = b[i];
            if (v < mn)
                mn = v;
            if (v > mx)
                mx = v;
            sum += v;
            cnt++;
        }
    }
    int64_t out[3] = {mn, mx, cnt ? (int64_t)((uint64_t)sum / cnt) : 0}; /* unsigned div in bpf */
    bpf_return_data(out, sizeof out);
    return 0;
}
/* binary search in a table */
uint32_t sorted[1000];
int binary_search(void)
{
    const void *p;
    int64_t n;
    uint64_t found = 0;
    while ((n = csd_next(&p, 65536)) > 0) {
        const uint32_t *b = p;
        for (int64_t i = 0; i < (n >> 2); i++) {
            unsigned lo = 0, hi = 1000;
            while (lo < hi) {
                unsigned mid = lo + (hi - lo) / 2;
                if (sorted[mid] < b[i])
                    lo = mid + 1;
                else
                    hi = mid;
            }
            if (lo < 1000 && sorted[lo] == b[i])
                found++;
        }
    }
    bpf_return_data(&found, 8);
    return 0;
}
/* parse records of variable length */
int records(void)
{
    const void *p;
    int64_t n;
    uint64_t total = 0;
    while ((n = csd_next(&p, 65536)) > 0) {
        const uint8_t *b = p;
        int64_t at = 0;
        while (at + 2 <= n) {
            unsigned len = b[at];
            if (at + 1 + (int64_t)len > n)
                break;
            total += len;
            at += 1 + len;
        }
    }
    bpf_return_data(&total, 8);
    return 0;
}
/* popcount / shift loops */
int count_bits(void)
{
    const void *p;
    int64_t n;
    uint64_t total = 0;
    while ((n = csd_next(&p, 65536)) > 0) {
        const uint64_t *b = p;
        for (int64_t i = 0; i < (n >> 3); i++) {
            uint64_t x = b[i];
            while (x) {
                x &= x - 1;
                total++;
            }
        }
    }
    bpf_return_data(&total, 8);
    return 0;
}
/* decimal output */
int decimal(void)
{
    const void *p;
    int64_t n;
    uint64_t total = 0;
    char out[24];
    while ((n = csd_next(&p, 65536)) > 0)
        total += n;
    int at = 24;
    for (int i = 0; i < 24; i++)
        out[i] = ' ';
    do {
        out[--at] = '0' + total % 10;
        total /= 10;
    } while (total && at > 0);
    bpf_return_data(out, 24);
    return 0;
}
/* lz: hash table in memory, match lengths */
int compress(void)
{
    const void *p;
    int64_t n;
    uint8_t *mem;
    uint64_t size, outn = 0;
    bpf_get_mem_info((void **)&mem, &size);
    uint16_t *hash = (uint16_t *)mem;
    uint8_t *out = mem + 131072;
    while ((n = csd_next(&p, 32768)) > 0) {
        const uint8_t *b = p;
        int64_t i = 0;
        outn = 0;
        for (int k = 0; k < 4096; k++)
            hash[k] = 0;
        while (i + 4 <= n && outn + 16 < 200000) {
            uint32_t v = b[i] | b[i + 1] << 8 | b[i + 2] << 16 | (uint32_t)b[i + 3] << 24;
            uint32_t h = (v * 2654435761u) >> 20;
            uint32_t ref = hash[h];
            hash[h] = i;
            int64_t len = 0;
            if (ref < i)
                while (i + len < n && len < 255 && b[ref + len] == b[i + len])
                    len++;
            if (len >= 4) {
                out[outn++] = 255;
                out[outn++] = len;
                out[outn++] = (i - ref);
                out[outn++] = (i - ref) >> 8;
                i += len;
            } else {
                out[outn++] = b[i];
                i++;
            }
        }
        uint64_t sec;
        bpf_write(1, &sec, 0, outn, out);
    }
    bpf_return_data(&outn, 8);
    return 0;
}
/* functions */
static __attribute__((noinline)) uint64_t sum(const uint8_t *p, uint64_t n)
{
    uint64_t s = 0;
    for (uint64_t i = 0; i < n; i++)
        s += p[i];
    return s;
}
int calls(void)
{
    const void *p;
    int64_t n;
    uint64_t total = 0;
    while ((n = csd_next(&p, 65536)) > 0)
        total += sum(p, n);
    bpf_return_data(&total, 8);
    return 0;
}
static __attribute__((noinline)) int pick(int x)
{
    switch (x & 7) {
    case 0:
        return 3;
    case 1:
        return 9;
    case 2:
        return 11;
    case 3:
        return 1;
    case 4:
        return 8;
    case 5:
        return 2;
    default:
        return 5;
    }
}
uint64_t hits[12];
int switches(void)
{
    const void *p;
    int64_t n;
    while ((n = csd_next(&p, 65536)) > 0)
        for (int64_t i = 0; i < n; i++)
            hits[pick(((const uint8_t *)p)[i])]++;
    bpf_return_data(hits, sizeof hits);
    return 0;
}
/* rodata state machine */
static const uint8_t next_state[4][4] = {{0, 1, 2, 0}, {1, 1, 3, 0}, {2, 3, 3, 0}, {3, 3, 3, 0}};
uint64_t visits[4];
int machine(void)
{
    const void *p;
    int64_t n;
    unsigned st = 0;
    while ((n = csd_next(&p, 65536)) > 0)
        for (int64_t i = 0; i < n; i++) {
            st = next_state[st][((const uint8_t *)p)[i] & 3];
            visits[st]++;
        }
    bpf_return_data(visits, sizeof visits);
    return 0;
}
int dbg(void)
{
    bpf_debug("hello");
    char m[] = "ab";
    bpf_debug(m);
    return 0;
}
/* pointer end loops */
int endptr(void)
{
    const void *p;
    int64_t n;
    uint64_t c = 0;
    while ((n = csd_next(&p, 65536)) > 0) {
        const uint32_t *b = p, *e = b + (n >> 2);
        for (; b != e; b++)
            c += *b;
    }
    bpf_return_data(&c, 8);
    return 0;
}
int countdown(void)
{
    const void *p;
    int64_t n;
    uint64_t c = 0;
    while ((n = csd_next(&p, 65536)) > 0) {
        const uint8_t *b = p;
        while (n--)
            c += *b++;
    }
    bpf_return_data(&c, 8);
    return 0;
}
int copyout(void)
{
    const void *p;
    int64_t n;
    uint8_t *mem;
    uint64_t size, m = 0;
    bpf_get_mem_info((void **)&mem, &size);
    while ((n = csd_next(&p, 65536)) > 0) {
        const uint8_t *b = p;
        m = 0;
        for (int64_t i = 0; i < n; i++)
            if (b[i] > 128)
                mem[m++] = b[i];
        bpf_return_data(mem, m);
    }
    return 0;
}
int args(struct {
    uint32_t limit;
    uint32_t n;
} * ctx)
{
    void *mem;
    uint64_t size;
    bpf_get_mem_info(&mem, &size);
    uint32_t *b = mem;
    uint64_t c = 0;
    uint32_t n = ctx->n;
    if (n > size / 4)
        n = size / 4;
    for (uint32_t i = 0; i < n; i++)
        if (b[i] < ctx->limit)
            c++;
    bpf_return_data(&c, 8);
    return 0;
}
int insertion(void)
{
    void *mem;
    uint64_t size;
    bpf_get_mem_info(&mem, &size);
    int *a = mem;
    for (int i = 1; i < 1000; i++) {
        int v = a[i], j = i - 1;
        while (j >= 0 && a[j] > v) {
            a[j + 1] = a[j];
            j--;
        }
        a[j + 1] = v;
    }
    bpf_return_data(a, 4000);
    return 0;
}
int matrix(void)
{
    void *mem;
    uint64_t size;
    bpf_get_mem_info(&mem, &size);
    uint64_t *a = mem;
    for (int i = 0; i < 64; i++)
        for (int j = 0; j < 64; j++) {
            uint64_t s = 0;
            for (int k = 0; k < 64; k++)
                s += a[i * 64 + k] * a[4096 + k * 64 + j];
            a[8192 + i * 64 + j] = s;
        }
    bpf_return_data(a + 8192, 32768);
    return 0;
}
