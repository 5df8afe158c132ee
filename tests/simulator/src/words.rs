//! Knows the words a Vietnamese shop's data are made of.
//! Which row gets which words is left to the shop.

pub const FAMILY: &[&str] = &[
    "Nguyễn", "Trần", "Lê", "Phạm", "Hoàng", "Huỳnh", "Phan", "Vũ", "Võ", "Đặng", "Bùi", "Đỗ", "Hồ", "Ngô",
    "Dương", "Lý",
];

pub const MIDDLE: &[&str] =
    &["Thị", "Văn", "Ngọc", "Minh", "Thanh", "Thu", "Hồng", "Quang", "Hữu", "Kim", "Bảo", "Đức"];

pub const GIVEN: &[&str] = &[
    "An", "Anh", "Bình", "Châu", "Chi", "Dung", "Duy", "Giang", "Hà", "Hải", "Hạnh", "Hiếu", "Hoa", "Huệ",
    "Hùng", "Hương", "Khánh", "Lan", "Linh", "Loan", "Mai", "Nam", "Nga", "Ngân", "Nhung", "Oanh", "Phúc",
    "Phương", "Quân", "Quỳnh", "Sơn", "Tâm", "Thảo", "Thủy", "Trang", "Tuấn", "Tuyết", "Uyên", "Vân", "Vy",
    "Yến",
];

pub const CUSTOMER_SAYS: &[&str] = &[
    "Shop ơi còn size M không ạ?",
    "Mẫu này bao nhiêu tiền vậy shop?",
    "Cho em xin bảng size với ạ",
    "Em lấy 1 cái màu đen nhé",
    "Ship về Đà Nẵng bao nhiêu ạ?",
    "Khi nào có hàng lại vậy shop?",
    "Em chuyển khoản rồi, shop kiểm tra giúp em",
    "Váy này có màu be không ạ?",
    "Inbox em với",
    "Hàng đẹp lắm, cảm ơn shop ❤",
    "Em muốn đổi size L được không?",
    "Shop giao trong hôm nay được không ạ?",
    "Giá sỉ thế nào vậy ạ \"shop\"?",
    "Địa chỉ: 12/3 Lê Lợi, Q.1, TP.HCM",
    "Ib giá",
    "ok shop",
];

pub const SHOP_SAYS: &[&str] = &[
    "Dạ mẫu này còn đủ size ạ, chị cho em xin chiều cao cân nặng nhé",
    "Dạ giá 350k, freeship đơn từ 500k ạ",
    "Shop đã nhận được chuyển khoản, em lên đơn ngay ạ",
    "Dạ đơn của mình đang trên đường giao ạ",
    "Chị cho em xin số điện thoại và địa chỉ nhé",
    "Dạ mẫu này tuần sau có hàng lại ạ",
    "Shop đã inbox chị rồi ạ",
    "Cảm ơn chị đã ủng hộ shop 🌸",
    "Dạ shop hỗ trợ đổi size trong 7 ngày ạ",
];

pub const POSTS: &[&str] = &[
    "Váy hoa nhí về thêm màu mới, giá chỉ 350k 🌸",
    "SALE cuối tuần: giảm 20% toàn bộ áo sơ mi",
    "Livestream 20h tối nay, chốt đơn nhận quà",
    "Set đồ công sở thanh lịch, đủ size S-XL",
    "Feedback của khách yêu ❤",
    "Áo khoác mùa đông đã về kho, số lượng có hạn",
    "Tuyển cộng tác viên bán hàng online",
    "Minigame: like và comment nhận voucher 50k",
];

pub const STAFF: &[&str] =
    &["Trần Thu Hà", "Nguyễn Minh Quân", "Lê Ngọc Mai", "Phạm Hữu Duy", "Võ Thanh Trang"];

/// Tags as a page defines them: id, text, colour, lighter colour.
pub const TAGS: &[(i64, &str, &str, &str)] = &[
    (61, "Đã mua", "#4b5577", "#c9ccd6"),
    (62, "Chờ chuyển khoản", "#d4b106", "#f4e9b4"),
    (63, "Đang giao hàng", "#1890ff", "#badefe"),
    (64, "Khách sỉ", "#722ed1", "#d4c0f1"),
    (65, "Hủy đơn", "#f5222d", "#fcbdc0"),
    (66, "Hỏi giá", "#13c2c2", "#b8eded"),
    (67, "Khách VIP", "#fa8c16", "#feddb9"),
    (68, "Đổi trả", "#eb2f96", "#f9c0df"),
    (69, "Đặt hàng", "#52c41a", "#cbedba"),
    (103, "Lead, quảng cáo", "#2f54eb", "#c0cbf9"),
];
