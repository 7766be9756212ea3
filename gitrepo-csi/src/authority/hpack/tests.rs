//! The examples of RFC 7541, appendix C, and malformed blocks.

use super::*;

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn fields(decoder: &mut Decoder, block: &[u8]) -> Result<Vec<String>, Malformed> {
    let mut fields = Vec::new();
    decoder.decode(block, |field| {
        fields.push(format!("{}: {}", field.name.escape_ascii(), field.value.escape_ascii()));
        Ok::<(), Malformed>(())
    })?;
    Ok(fields)
}

/// Decodes blocks of one connection, in hexadecimal, with the size of the table after each.
fn sequence(decoder: &mut Decoder, blocks: [(&str, usize); 3]) -> Vec<Vec<String>> {
    let decode = |(block, size): (&str, usize)| {
        let decoded = fields(decoder, &bytes(block)).unwrap();
        assert_eq!(decoder.table.size(), size, "after {block}");
        decoded
    };
    blocks.map(decode).to_vec()
}

#[test]
fn numbers_of_appendix_c_1() {
    assert_eq!(number(&mut [0b1110_1010].as_slice(), 5), Ok(10));
    assert_eq!(number(&mut [0b0001_1111, 0b1001_1010, 0b0000_1010].as_slice(), 5), Ok(1337));
    assert_eq!(number(&mut [42].as_slice(), 7), Ok(42));
}

#[test]
fn literals_of_appendix_c_2() {
    let mut decoder = Decoder::new();
    let indexed = bytes("400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572");
    assert_eq!(fields(&mut decoder, &indexed).unwrap(), ["custom-key: custom-header"]);
    assert_eq!(decoder.table.size(), 55);
    assert_eq!(fields(&mut decoder, &bytes("040c 2f73 616d 706c 652f 7061 7468")).unwrap(), [":path: /sample/path"]);
    assert_eq!(decoder.table.size(), 55, "a literal without indexing leaves the table alone");
    decoder
        .decode(&bytes("1008 7061 7373 776f 7264 0673 6563 7265 74"), |field| {
            assert!(field.never_indexed && field.name == b"password" && field.value == b"secret", "{field:?}");
            Ok::<(), Malformed>(())
        })
        .unwrap();
    assert_eq!(fields(&mut decoder, &bytes("82")).unwrap(), [":method: GET"]);
}

const REQUESTS: [&[&str]; 3] = [
    &[":method: GET", ":scheme: http", ":path: /", ":authority: www.example.com"],
    &[":method: GET", ":scheme: http", ":path: /", ":authority: www.example.com", "cache-control: no-cache"],
    &[
        ":method: GET",
        ":scheme: https",
        ":path: /index.html",
        ":authority: www.example.com",
        "custom-key: custom-value",
    ],
];

#[test]
fn requests_of_appendix_c_3() {
    let blocks = [
        ("8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d", 57),
        ("8286 84be 5808 6e6f 2d63 6163 6865", 110),
        ("8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65", 164),
    ];
    assert_eq!(sequence(&mut Decoder::new(), blocks), REQUESTS);
}

#[test]
fn requests_with_huffman_codes_of_appendix_c_4() {
    let blocks = [
        ("8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff", 57),
        ("8286 84be 5886 a8eb 1064 9cbf", 110),
        ("8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf", 164),
    ];
    assert_eq!(sequence(&mut Decoder::new(), blocks), REQUESTS);
}

const RESPONSES: [&[&str]; 3] = [
    &[
        ":status: 302",
        "cache-control: private",
        "date: Mon, 21 Oct 2013 20:13:21 GMT",
        "location: https://www.example.com",
    ],
    &[
        ":status: 307",
        "cache-control: private",
        "date: Mon, 21 Oct 2013 20:13:21 GMT",
        "location: https://www.example.com",
    ],
    &[
        ":status: 200",
        "cache-control: private",
        "date: Mon, 21 Oct 2013 20:13:22 GMT",
        "location: https://www.example.com",
        "content-encoding: gzip",
        "set-cookie: foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1",
    ],
];

/// The table of appendix C.5 and C.6, so small that entries are evicted.
fn small() -> Decoder {
    let mut decoder = Decoder::new();
    decoder.table.resize(256).unwrap();
    decoder
}

#[test]
fn responses_with_eviction_of_appendix_c_5() {
    let blocks = [
        (
            "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 \
             3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
            222,
        ),
        ("4803 3330 37c1 c0bf", 222),
        (
            "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 677a 6970 \
             7738 666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49 553b 206d 6178 2d61 \
             6765 3d33 3630 303b 2076 6572 7369 6f6e 3d31",
            215,
        ),
    ];
    assert_eq!(sequence(&mut small(), blocks), RESPONSES);
}

#[test]
fn responses_with_huffman_codes_and_eviction_of_appendix_c_6() {
    let blocks = [
        (
            "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad \
             1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
            222,
        ),
        ("4883 640e ffc1 c0bf", 222),
        (
            "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 \
             e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07",
            215,
        ),
    ];
    assert_eq!(sequence(&mut small(), blocks), RESPONSES);
}

#[test]
fn a_size_update_evicts_entries_and_must_come_first_and_not_exceed_the_default() {
    let mut decoder = Decoder::new();
    fields(&mut decoder, &bytes("400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572")).unwrap();
    assert_eq!(fields(&mut decoder, &bytes("20 3fe1 1f 82")).unwrap(), [":method: GET"]);
    assert_eq!(decoder.table.size(), 0);
    assert_eq!(fields(&mut decoder, &bytes("be")), Err(Malformed::Index(62)));
    assert_eq!(fields(&mut decoder, &bytes("82 20")), Err(Malformed::LateTableSize));
    assert_eq!(fields(&mut decoder, &bytes("3fe2 1f")), Err(Malformed::TableSize(4097)));
}

#[test]
fn an_entry_larger_than_the_table_empties_it() {
    let mut decoder = small();
    fields(&mut decoder, &bytes("4001 6101 62")).unwrap();
    assert_eq!(decoder.table.size(), 34);
    let mut large = bytes("4001 617f 8101");
    large.extend([b'x'; 256]);
    assert_eq!(fields(&mut decoder, &large).unwrap().len(), 1);
    assert_eq!(decoder.table.size(), 0);
}

#[test]
fn malformed_blocks_are_errors() {
    let decode = |hex: &str| fields(&mut Decoder::new(), &bytes(hex));
    assert_eq!(decode("80"), Err(Malformed::Index(0)));
    assert_eq!(decode("ff00"), Err(Malformed::Index(127)));
    assert_eq!(decode("40"), Err(Malformed::Truncated));
    assert_eq!(decode("0002 61"), Err(Malformed::Truncated));
    assert_eq!(decode("ff80 8080 8000"), Err(Malformed::Number));
    assert_eq!(decode("ffff ffff ffff ffff ff7f"), Err(Malformed::Number));
    // Huffman: the end symbol, eight bits of padding, padding with a zero.
    assert_eq!(decode("0084 ffff ffff 00"), Err(Malformed::Huffman));
    assert_eq!(decode("0082 1fff 00"), Err(Malformed::Huffman));
    assert_eq!(decode("0081 18 00"), Err(Malformed::Huffman));
    assert_eq!(decode("0081 1f 00"), Ok(vec!["a: ".to_owned()]));
}

#[test]
fn an_encoded_field_decodes_to_the_same_field() {
    for length in [0, 1, 126, 127, 128, 254, 255, 16_383 + 127, 20_000] {
        let value = vec![b'v'; length];
        let mut block = Vec::new();
        encode(&Field { name: b"name", value: &value, never_indexed: length == 1 }, &mut block);
        let mut decoder = Decoder::new();
        decoder
            .decode(&block, |field| {
                assert!(field.name == b"name" && field.value == value && field.never_indexed == (length == 1));
                Ok::<(), Malformed>(())
            })
            .unwrap();
        assert_eq!(decoder.table.size(), 0);
    }
}
